package io.rmgrpc.client;

import io.grpc.Status;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;

/**
 * Any failure of the service: of a call, of a stream, or of one item, where it is the {@linkplain Result.Failed result} and was
 * not thrown.
 */
public final class RewardException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final Status.Code code;
  private final String reason;
  private final String description;
  private final String field;
  private final Duration retryDelay;
  private final transient Map<String, String> metadata;

  RewardException(
      Status.Code code, String reason, String description, String field, Duration retryDelay, Map<String, String> metadata) {
    super(code + "/" + reason + (field.isEmpty() ? "" : " at " + field) + ": " + description);
    this.code = code;
    this.reason = reason;
    this.description = description;
    this.field = field;
    this.retryDelay = retryDelay;
    this.metadata = Map.copyOf(metadata);
  }

  RewardException(Status.Code code, String reason, String description) {
    this(code, reason, description, "", null, Map.of());
  }

  /**
   * An item or a setting that cannot be.
   *
   * @param field path of what is at fault, or empty
   * @param description what is wrong with it, and what would be right
   */
  public static RewardException invalid(String field, String description) {
    return new RewardException(Status.Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST, description, field, null, Map.of());
  }

  RewardException causedBy(Throwable cause) {
    initCause(cause);
    return this;
  }

  /** The gRPC status code. */
  public Status.Code code() {
    return code;
  }

  /** The stable name of the kind of failure, such as {@code NO_RESPONSE}; one that the server alone knows is kept as it is. */
  public String reason() {
    return reason;
  }

  /** What happened, in words; {@link #getMessage} has code, reason and field before it. */
  public String description() {
    return description;
  }

  /** Path of the field that is at fault, or empty. */
  public String field() {
    return field;
  }

  /** After which time a retry may succeed; empty where it cannot. */
  public Optional<Duration> retryDelay() {
    return Optional.ofNullable(retryDelay);
  }

  /** Further facts. */
  public Map<String, String> metadata() {
    return metadata == null ? Map.of() : metadata;
  }
}
