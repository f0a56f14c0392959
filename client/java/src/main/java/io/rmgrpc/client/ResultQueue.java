package io.rmgrpc.client;

import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Queue;

/** Results between the session and the caller, in the order that was asked for. */
final class ResultQueue {
  private final Ordering ordering;
  private final Queue<Result> ready = new ArrayDeque<>();
  /** By index. The server could hold them back too, but cannot know where an item that is sent again belongs. */
  private final Map<Long, Result> held = new HashMap<>();

  private long next;

  ResultQueue(Ordering ordering) {
    this.ordering = ordering;
  }

  void add(Result result) {
    if (ordering == Ordering.COMPLETION) {
      ready.add(result);
      return;
    }
    held.put(result.index(), result);
    for (Result turn = held.remove(next); turn != null; turn = held.remove(next)) {
      ready.add(turn);
      next++;
    }
  }

  Optional<Result> poll() {
    return Optional.ofNullable(ready.poll());
  }

  boolean hasReady() {
    return !ready.isEmpty();
  }

  /** How many the caller has not taken, those that are held back too. */
  int size() {
    return ready.size() + held.size();
  }
}
