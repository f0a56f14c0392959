package io.rmgrpc.client;

import java.time.Duration;

/** Between durations on the wire and those of the language. */
final class Durations {
  /** The most that the wire's type may hold, about 10,000 years. */
  private static final long MOST_SECONDS = 315_576_000_000L;

  private Durations() {}

  static boolean isValidTimeout(com.google.protobuf.Duration proto) {
    boolean hasSeconds = proto.getSeconds() >= 0 && proto.getSeconds() <= MOST_SECONDS;
    return hasSeconds && proto.getNanos() >= 0 && proto.getNanos() < 1_000_000_000;
  }

  static boolean isValidTimeout(Duration duration) {
    return !duration.isNegative() && duration.getSeconds() <= MOST_SECONDS;
  }

  /** What the wire holds; nothing less than zero. */
  static Duration of(com.google.protobuf.Duration proto) {
    long seconds = Math.min(Math.max(proto.getSeconds(), 0), MOST_SECONDS);
    return Duration.ofSeconds(seconds, Math.max(proto.getNanos(), 0));
  }

  static com.google.protobuf.Duration toProto(Duration duration) {
    return com.google.protobuf.Duration.newBuilder().setSeconds(duration.getSeconds()).setNanos(duration.getNano()).build();
  }
}
