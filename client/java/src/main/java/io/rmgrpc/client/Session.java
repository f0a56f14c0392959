package io.rmgrpc.client;

import io.grpc.Status;
import io.rmgrpc.v1.CancelItems;
import io.rmgrpc.v1.Item;
import io.rmgrpc.v1.ItemResult;
import io.rmgrpc.v1.Items;
import io.rmgrpc.v1.OpenStream;
import io.rmgrpc.v1.ScoreBatchRequest;
import io.rmgrpc.v1.ScoreBatchResponse;
import io.rmgrpc.v1.Window;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NavigableSet;
import java.util.Optional;
import java.util.PriorityQueue;
import java.util.Queue;
import java.util.TreeSet;

/**
 * What one stream still owes its caller, over any number of connections. Pure: no I/O and no threads, and the caller brings the
 * clock, as the time since any fixed moment.
 *
 * <p>After a lost connection everything unanswered is sent again, so that each item gets exactly one result whatever happens
 * between.
 */
final class Session {
  /** Largest message that is sent, until the server tells what it reads. */
  static final int MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

  /** Past an item's deadline, the time in which the server's own answer is still awaited. */
  static final Duration ANSWER_GRACE = Duration.ofSeconds(5);

  private static final int ITEMS_PER_MESSAGE = 32;
  private static final int BYTES_PER_MESSAGE = 1_000_000;

  /** Items that are taken before the server has told its window. */
  private static final int FIRST_WINDOW = 256;

  /** Bytes kept free in a message, for what stands around its items. */
  private static final int MESSAGE_OVERHEAD = 1024;

  private final Settings settings;
  private final Map<String, Owed> owed = new LinkedHashMap<>();
  private final NavigableSet<Owed> byDeadline =
      new TreeSet<>(Comparator.<Owed, Duration>comparing(one -> one.deadline).thenComparing(one -> one.index));
  private final Deque<Owed> unsent = new ArrayDeque<>();
  private final Queue<Owed> resting =
      new PriorityQueue<>(Comparator.<Owed, Duration>comparing(one -> one.retryAt).thenComparing(one -> one.index));
  private final List<String> cancels = new ArrayList<>();
  private final ResultQueue results;

  private long taken;
  private int inFlightItems;
  private long inFlightBytes;
  private int windowItems = FIRST_WINDOW;
  private long windowBytes = Long.MAX_VALUE;
  private long maxMessageBytes = MAX_MESSAGE_BYTES;
  private boolean isOpen;
  private boolean isDraining;
  private boolean hasSourceEnded;

  Session(Settings settings) {
    this.settings = settings;
    this.results = new ResultQueue(settings.ordering());
  }

  /** Whether another item may be taken: neither too many are on their way, nor too many results unread. */
  boolean hasRoom() {
    return owed.size() < windowItems && results.size() < windowItems;
  }

  boolean owesNothing() {
    return owed.isEmpty();
  }

  /** Whether no result is owed and no item will come. Results may still be unread. */
  boolean isFinished() {
    return hasSourceEnded && owed.isEmpty();
  }

  boolean hasSourceEnded() {
    return hasSourceEnded;
  }

  boolean hasResult() {
    return results.hasReady();
  }

  Optional<Result> pollResult() {
    return results.poll();
  }

  // From the caller.

  /** Takes an item and tells its position. One that cannot be sent has its result at once. */
  long take(Item item, Duration now) {
    if (item.hasTimeout() && !Durations.isValidTimeout(item.getTimeout())) {
      return reject(item.getId(), RewardException.invalid("timeout", "must be from zero to 10,000 years"));
    }
    Optional<String> garbled = Surrogates.findUnpaired(item);
    if (garbled.isPresent()) {
      String problem = "holds half of a surrogate pair, which UTF-8 cannot hold; replace it";
      return reject(item.getId(), RewardException.invalid(garbled.get(), problem));
    }
    Duration timeout = item.hasTimeout() ? Durations.of(item.getTimeout()) : settings.timeout();
    long index = taken++;
    Owed one = new Owed(index, idOr(item.getId(), index), item, now.plus(timeout));
    owed.put(one.wireId, one);
    byDeadline.add(one);
    unsent.add(one);
    return index;
  }

  /** Takes a position for an item that could not be made; the error is its result. */
  long reject(String id, RewardException error) {
    long index = taken++;
    results.add(new Result.Failed(idOr(id, index), index, error));
    return index;
  }

  void endSource() {
    hasSourceEnded = true;
  }

  /** Takes back the item at a position, if it has no result yet. */
  void withdraw(long index) {
    Owed one = owed.get(Long.toString(index));
    if (one != null) {
      withdraw(one);
    }
  }

  /** Takes back every item of the caller's id that has no result yet. */
  void withdraw(String id) {
    owed.values().stream().filter(one -> one.id.equals(id)).toList().forEach(this::withdraw);
  }

  private void withdraw(Owed one) {
    if (one.isWithdrawn) {
      return;
    }
    one.isWithdrawn = true;
    if (one.place == Owed.Place.IN_FLIGHT) {
      cancels.add(one.wireId);
    } else {
      fail(one, takenBack());
    }
  }

  // To the server.

  /** The first message of a connection. */
  ScoreBatchRequest opening() {
    OpenStream.Builder open = OpenStream.newBuilder().setModel(settings.model()).setOptions(settings.options());
    return ScoreBatchRequest.newBuilder().setOpen(open).build();
  }

  /** What may be sent now: ids of items that are taken back, or items. */
  Optional<ScoreBatchRequest> nextMessage(Duration now) {
    while (!resting.isEmpty() && resting.element().retryAt.compareTo(now) <= 0) {
      toUnsent(resting.remove());
    }
    if (!isOpen) {
      return Optional.empty();
    }
    if (!cancels.isEmpty()) {
      CancelItems.Builder ids = CancelItems.newBuilder().addAllIds(cancels);
      cancels.clear();
      return Optional.of(ScoreBatchRequest.newBuilder().setCancel(ids).build());
    }
    if (isDraining) {
      return Optional.empty();
    }
    Items items = nextItems(now);
    if (items.getItemsCount() == 0) {
      return Optional.empty();
    }
    return Optional.of(ScoreBatchRequest.newBuilder().setItems(items).build());
  }

  private Items nextItems(Duration now) {
    Items.Builder items = Items.newBuilder();
    long mostBytes = maxMessageBytes - MESSAGE_OVERHEAD;
    long size = 0;
    while (!unsent.isEmpty() && items.getItemsCount() < ITEMS_PER_MESSAGE && inFlightItems < windowItems) {
      Owed one = unsent.element();
      Item item = one.toSend(now);
      int bytes = item.getSerializedSize();
      if (bytes > mostBytes) {
        fail(one, tooLarge(bytes));
        continue;
      }
      boolean isFull = inFlightItems > 0 && inFlightBytes + bytes > windowBytes;
      boolean isNextMessage = size > 0 && size + bytes > Math.min(BYTES_PER_MESSAGE, mostBytes);
      if (isFull || isNextMessage) {
        break;
      }
      unsent.remove();
      one.place = Owed.Place.IN_FLIGHT;
      one.bytes = bytes;
      inFlightItems++;
      inFlightBytes += bytes;
      size += bytes;
      items.addItems(item);
    }
    return items.build();
  }

  /** When time alone will change something: a retry is due, or an item's deadline has passed. */
  Optional<Duration> nextWakeup() {
    if (byDeadline.isEmpty()) {
      return Optional.empty();
    }
    Duration expiry = byDeadline.first().deadline.plus(ANSWER_GRACE);
    if (resting.isEmpty()) {
      return Optional.of(expiry);
    }
    return Optional.of(Collections.min(List.of(expiry, resting.element().retryAt)));
  }

  // From the server.

  /** Takes in a message of the server; kinds that this version does not know are skipped. */
  void receive(ScoreBatchResponse response, Duration now) {
    switch (response.getMessageCase()) {
      case OPENED -> {
        long most = response.getOpened().getModel().getLimits().getMaxMessageBytes();
        maxMessageBytes = most > 0 ? most : maxMessageBytes;
        isOpen = true;
        setWindow(response.getOpened().getWindow());
      }
      case RESULTS -> response.getResults().getResultsList().forEach(result -> settle(result, now));
      case WINDOW -> setWindow(response.getWindow());
      case DRAINING -> isDraining = true;
      case MESSAGE_NOT_SET -> {}
    }
  }

  /** The connection is gone: what was in flight is to be sent again, before what was not sent yet. */
  void disconnected() {
    isOpen = false;
    isDraining = false;
    cancels.clear();
    List<Owed> lost = owed.values().stream().filter(one -> one.place == Owed.Place.IN_FLIGHT).toList();
    for (int at = lost.size() - 1; at >= 0; at--) {
      Owed one = lost.get(at);
      land(one);
      one.losses++;
      one.place = Owed.Place.UNSENT;
      unsent.addFirst(one);
    }
    for (Owed one : lost) {
      if (one.isWithdrawn) {
        fail(one, takenBack());
      } else if (one.losses >= settings.attempts()) {
        fail(one, unavailable("the server was lost " + one.losses + " times with this item"));
      }
    }
  }

  /** Gives up items whose deadline has passed without an answer, so that a server that hangs costs no more than that. */
  void expire(Duration now) {
    while (!byDeadline.isEmpty() && byDeadline.first().deadline.plus(ANSWER_GRACE).compareTo(now) <= 0) {
      String description = "the item's time ran out without an answer of the server";
      fail(byDeadline.first(), new RewardException(Status.Code.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED, description));
    }
  }

  private void setWindow(Window window) {
    windowItems = window.getItems() > 0 ? window.getItems() : FIRST_WINDOW;
    windowBytes = window.getBytes() > 0 ? window.getBytes() : Long.MAX_VALUE;
  }

  private void settle(ItemResult result, Duration now) {
    Owed one = owed.get(result.getId());
    if (one == null || one.place != Owed.Place.IN_FLIGHT) {
      return; // Answered already, or given up here.
    }
    switch (result.getOutcomeCase()) {
      case SCORE -> {
        drop(one);
        results.add(new Result.Scored(one.id, one.index, result.getScore()));
      }
      case ERROR -> {
        RewardException error = Failures.of(result.getError());
        if (!retries(one, error, now)) {
          fail(one, error);
        }
      }
      case OUTCOME_NOT_SET -> {
        String description = "the server answered with neither a score nor an error";
        fail(one, new RewardException(Status.Code.INTERNAL, Reason.INTERNAL, description));
      }
    }
  }

  /** Whether an item that got an error is tried again, which is then arranged. */
  private boolean retries(Owed one, RewardException error, Duration now) {
    if (error.retryDelay().isEmpty() || one.isWithdrawn) {
      return false;
    }
    Duration delay = error.retryDelay().get();
    if (error.reason().equals(Reason.DRAINING)) {
      isDraining = true; // The next connection finds another server, or this one again.
      land(one);
      toUnsent(one);
      return true;
    }
    boolean isOver;
    if (error.code() == Status.Code.UNAVAILABLE) {
      // The server is there and its scorers are not: they come back, or another server is no better off.
      if (one.downSince == null || now.compareTo(one.downLast.plus(delay).plus(ANSWER_GRACE)) > 0) {
        one.downSince = now;
      }
      one.downLast = now;
      isOver = now.minus(one.downSince).compareTo(settings.reconnect()) >= 0;
    } else {
      one.refusals++;
      delay = delay.multipliedBy(one.refusals);
      isOver = one.refusals >= settings.attempts();
    }
    Duration again = now.plus(delay);
    if (isOver || again.compareTo(one.deadline) >= 0) {
      return false;
    }
    land(one);
    one.place = Owed.Place.RESTING;
    one.retryAt = again;
    resting.add(one);
    return true;
  }

  private void toUnsent(Owed one) {
    one.place = Owed.Place.UNSENT;
    unsent.add(one);
  }

  /** Takes an item out of the window. */
  private void land(Owed one) {
    inFlightItems--;
    inFlightBytes -= one.bytes;
  }

  private void fail(Owed one, RewardException error) {
    drop(one);
    results.add(new Result.Failed(one.id, one.index, error));
  }

  private void drop(Owed one) {
    owed.remove(one.wireId);
    byDeadline.remove(one);
    switch (one.place) {
      case UNSENT -> unsent.remove(one);
      case IN_FLIGHT -> land(one);
      case RESTING -> resting.remove(one);
    }
  }

  private static String idOr(String id, long index) {
    return id.isEmpty() ? Long.toString(index) : id;
  }

  private RewardException tooLarge(int bytes) {
    String description = "the item has " + bytes + " bytes, and the server reads messages of " + maxMessageBytes;
    return new RewardException(Status.Code.RESOURCE_EXHAUSTED, Reason.MESSAGE_TOO_LARGE, description);
  }

  private static RewardException takenBack() {
    return new RewardException(Status.Code.CANCELLED, Reason.CANCELLED, "taken back by the caller");
  }

  private static RewardException unavailable(String description) {
    return new RewardException(Status.Code.UNAVAILABLE, Reason.UNAVAILABLE, description);
  }
}
