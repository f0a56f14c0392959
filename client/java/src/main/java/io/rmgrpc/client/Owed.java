package io.rmgrpc.client;

import io.rmgrpc.v1.Item;
import java.time.Duration;

/** An item without a result yet. Times are the session's. */
final class Owed {
  /** Where the session keeps it. */
  enum Place {
    /** Waiting for a connection or for the window. */
    UNSENT,
    /** A server has it. */
    IN_FLIGHT,
    /** Waiting until {@link Owed#retryAt}. */
    RESTING
  }

  final long index;
  /** The caller's. */
  final String id;
  /** The client's, on the wire. */
  final String wireId;
  final Duration deadline;
  /** As it is sent, but for its timeout. */
  private final Item item;

  Place place = Place.UNSENT;
  /** Those of the last sending. */
  int bytes;
  boolean isWithdrawn;
  /** How often the server had no room for it. */
  int refusals;
  /** How often the connection was lost while a server had it. */
  int losses;
  Duration retryAt = Duration.ZERO;
  /** When a server first said, in this outage, that it cannot score it now; null outside of one. */
  Duration downSince;
  Duration downLast;

  Owed(long index, String id, Item item, Duration deadline) {
    this.index = index;
    this.id = id;
    this.wireId = Long.toString(index);
    this.deadline = deadline;
    this.item = item.toBuilder().setId(wireId).clearTimeout().build();
  }

  /** The item with what is left of its timeout. */
  Item toSend(Duration now) {
    Duration left = deadline.minus(now);
    return item.toBuilder().setTimeout(Durations.toProto(left.isNegative() ? Duration.ZERO : left)).build();
  }
}
