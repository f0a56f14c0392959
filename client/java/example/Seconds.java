import io.rmgrpc.client.RewardException;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.time.Duration;

/** Durations from numbers of seconds. */
final class Seconds {
  /** The most that the contract's durations hold, about 10,000 years. */
  private static final BigDecimal MOST = BigDecimal.valueOf(315_576_000_000L);

  private Seconds() {}

  /** The duration, to the nanosecond; the error is that of the field or flag of this name. */
  static Duration of(String number, String name) {
    try {
      BigDecimal seconds = new BigDecimal(number);
      if (seconds.signum() >= 0 && seconds.compareTo(MOST) <= 0) {
        BigDecimal[] parts = seconds.setScale(9, RoundingMode.HALF_UP).divideAndRemainder(BigDecimal.ONE);
        return Duration.ofSeconds(parts[0].longValueExact(), parts[1].movePointRight(9).longValueExact());
      }
    } catch (NumberFormatException error) {
      // Told below, with the numbers that cannot be.
    }
    throw RewardException.invalid(name, "must be seconds, as a number from 0 to " + MOST);
  }
}
