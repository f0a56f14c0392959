package io.rmgrpc.client;

/** The reasons of errors that the client itself gives or acts on; the server has more, and new ones may come. */
public final class Reason {
  /** An argument, a setting or an item that cannot be. */
  public static final String INVALID_REQUEST = "INVALID_REQUEST";

  /** An item is larger than a message may be. */
  public static final String MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE";

  /** An item's time ran out before it was scored. */
  public static final String DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED";

  /** An item was taken back, or a stream was closed. */
  public static final String CANCELLED = "CANCELLED";

  /** The server cannot be reached, or cannot score now. */
  public static final String UNAVAILABLE = "UNAVAILABLE";

  /** The server is going down and takes nothing new. */
  public static final String DRAINING = "DRAINING";

  /** A fault of the server, or an answer that makes no sense. */
  public static final String INTERNAL = "INTERNAL";

  private Reason() {}
}
