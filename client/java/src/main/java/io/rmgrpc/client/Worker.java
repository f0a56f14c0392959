package io.rmgrpc.client;

import io.grpc.Status;
import io.rmgrpc.v1.Item;
import io.rmgrpc.v1.RewardServiceGrpc.RewardServiceStub;
import io.rmgrpc.v1.ScoreBatchRequest;
import io.rmgrpc.v1.ScoreBatchResponse;
import java.time.Duration;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Supplier;

/**
 * A session at work: a thread that keeps a connection for as long as results are owed, and a lock between that thread, gRPC's
 * and the caller's.
 */
final class Worker {
  private static final Duration FIRST_PAUSE = Duration.ofMillis(100);
  private static final Duration LONGEST_PAUSE = Duration.ofSeconds(2);

  /** Ends of a call after which another may go well. A cancelled one, when nobody here did, is a server or a proxy that goes. */
  private static final Set<Status.Code> LOSSES = Set.of(Status.Code.UNAVAILABLE, Status.Code.CANCELLED);

  /** How long a server may take to answer at least, however short {@link Settings#reconnect} is. */
  private static final Duration SHORTEST_TRY = Duration.ofSeconds(5);

  /** For a call to end by itself, once all results are given. */
  private static final Duration LINGER = Duration.ofSeconds(1);

  private final Settings settings;
  private final Supplier<RewardServiceStub> stubs;
  private final Session session;
  private final long start = System.nanoTime();
  private final Thread thread;

  private final ReentrantLock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private final Condition readable = lock.newCondition();
  private final Condition roomy = lock.newCondition();

  /** What ended the stream before its results were all there. */
  private RewardException failure;

  /** Since when no server has answered; null while one does, or while nothing is owed. */
  private Duration silentSince;

  /**
   * @param stubs gives the stub for the next connection
   */
  Worker(Settings settings, Supplier<RewardServiceStub> stubs) {
    this.settings = settings;
    this.stubs = stubs;
    session = new Session(settings);
    thread = new Thread(this::run, "rm-grpc-stream");
    thread.setDaemon(true);
  }

  void start() {
    thread.start();
  }

  // The caller's side.

  long send(Item item) throws InterruptedException {
    lock.lockInterruptibly();
    try {
      awaitRoom();
      long index = session.take(item, now());
      tell();
      return index;
    } finally {
      lock.unlock();
    }
  }

  long reject(String id, RewardException error) throws InterruptedException {
    lock.lockInterruptibly();
    try {
      awaitRoom();
      long index = session.reject(id, error);
      tell();
      return index;
    } finally {
      lock.unlock();
    }
  }

  void finish() {
    locked(session::endSource);
  }

  void withdraw(long index) {
    locked(() -> session.withdraw(index));
  }

  void withdraw(String id) {
    locked(() -> session.withdraw(id));
  }

  /** Ends the stream with an error, unless it has ended. */
  void fail(RewardException error) {
    locked(() -> setFailure(error));
  }

  Optional<Result> read() throws InterruptedException {
    lock.lockInterruptibly();
    try {
      while (!session.hasResult() && !isOver()) {
        readable.await();
      }
      Optional<Result> result = session.pollResult();
      if (result.isEmpty() && failure != null) {
        throw failure;
      }
      roomy.signal();
      return result;
    } finally {
      lock.unlock();
    }
  }

  /** Waits for the thread to end, which it does soon once the stream has finished or failed. */
  void join() throws InterruptedException {
    thread.join(2 * LINGER.toMillis());
  }

  private void awaitRoom() throws InterruptedException {
    while (failure == null && !session.hasSourceEnded() && !session.hasRoom()) {
      roomy.await();
    }
    if (failure != null) {
      throw failure;
    }
    if (session.hasSourceEnded()) {
      throw new IllegalStateException("the stream was finished, and takes no more items");
    }
  }

  // The thread's side.

  private void run() {
    Duration pause = FIRST_PAUSE;
    try {
      while (awaitOwed()) {
        boolean wasAnswered = connect();
        pause = wasAnswered ? FIRST_PAUSE : pause;
        rest(pause);
        pause = min(pause.multipliedBy(2), LONGEST_PAUSE);
      }
    } catch (RewardException error) {
      fail(error);
    } catch (InterruptedException | RuntimeException error) {
      // Whatever it was, nobody waits for ever.
      fail(new RewardException(Status.Code.INTERNAL, Reason.INTERNAL, "the stream's thread ended: " + error).causedBy(error));
    }
  }

  /** Waits until a result is owed; false where the stream is over. */
  private boolean awaitOwed() throws InterruptedException {
    lock.lock();
    try {
      while (session.owesNothing() && !isOver()) {
        silentSince = null;
        changed.await();
      }
      return !isOver();
    } finally {
      lock.unlock();
    }
  }

  /** One connection to its end; whether a server answered on it. */
  private boolean connect() throws InterruptedException {
    Connection connection = new Connection(this::receive, this::wake);
    Duration started = now();
    locked(() -> silentSince = silentSince == null ? started : silentSince);
    connection.open(stubs.get());
    try {
      connection.send(session.opening());
      Optional<ScoreBatchRequest> message = awaitMessage(connection, started);
      while (message.isPresent()) {
        connection.send(message.get());
        message = awaitMessage(connection, started);
      }
      linger(connection);
    } finally {
      connection.cancel();
    }
    return afterwards(connection);
  }

  /** The next message for the server; empty where the connection is of no more use. */
  private Optional<ScoreBatchRequest> awaitMessage(Connection connection, Duration started) throws InterruptedException {
    Duration mostSilent = settings.reconnect();
    lock.lock();
    try {
      while (true) {
        session.expire(now());
        if (silentSince != null && session.owesNothing()) {
          silentSince = now(); // No time runs while nothing is owed.
        }
        Optional<ScoreBatchRequest> message = Optional.empty();
        boolean isUsable = !isOver() && connection.end().isEmpty();
        if (isUsable && connection.isReady()) {
          message = session.nextMessage(now());
        }
        tellCaller();
        Duration giveUp = silentSince == null ? null : max(silentSince.plus(mostSilent), started.plus(SHORTEST_TRY));
        if (message.isPresent() || !isUsable || isOver() || (giveUp != null && giveUp.compareTo(now()) <= 0)) {
          return message;
        }
        await(session.nextWakeup(), Optional.ofNullable(giveUp));
      }
    } finally {
      lock.unlock();
    }
  }

  /** Lets a call whose items all have their results end by itself, which spares the server a cancellation. */
  private void linger(Connection connection) throws InterruptedException {
    lock.lock();
    try {
      if (failure != null || !session.isFinished() || connection.end().isPresent()) {
        return;
      }
      connection.halfClose();
      Duration until = now().plus(LINGER);
      while (connection.end().isEmpty() && now().compareTo(until) < 0) {
        await(Optional.of(until), Optional.empty());
      }
    } finally {
      lock.unlock();
    }
  }

  /** What the end of a connection means; whether a server answered on it. */
  private boolean afterwards(Connection connection) {
    lock.lock();
    try {
      boolean wasAnswered = silentSince == null;
      if (isOver()) {
        return wasAnswered;
      }
      RewardException loss = lossOf(connection);
      if (!LOSSES.contains(loss.code())) {
        setFailure(loss);
        return wasAnswered;
      }
      session.disconnected();
      silentSince = wasAnswered ? now() : silentSince;
      boolean isTooLong = now().minus(silentSince).compareTo(settings.reconnect()) > 0;
      if (isTooLong && !session.owesNothing()) {
        double seconds = settings.reconnect().toMillis() / 1000.0;
        setFailure(unavailable("no server answered for " + seconds + " s; last: " + loss.description()).causedBy(loss));
      }
      return wasAnswered;
    } finally {
      tell();
      lock.unlock();
    }
  }

  private static RewardException lossOf(Connection connection) {
    if (connection.end().isEmpty()) {
      return unavailable("no answer came");
    }
    RewardException error = connection.end().get().error();
    return error != null ? error : unavailable("the call ended before every item was answered");
  }

  /** Waits before the next connection; what time alone settles is settled meanwhile. */
  private void rest(Duration pause) throws InterruptedException {
    lock.lock();
    try {
      Duration until = now().plus(pause);
      while (!isOver() && now().compareTo(until) < 0) {
        session.expire(now());
        tellCaller();
        await(session.nextWakeup(), Optional.of(until));
      }
    } finally {
      lock.unlock();
    }
  }

  // gRPC's side.

  private void receive(ScoreBatchResponse response) {
    locked(() -> {
      silentSince = null;
      session.receive(response, now());
    });
  }

  private void wake() {
    locked(() -> {});
  }

  // With the lock held.

  private boolean isOver() {
    return failure != null || session.isFinished();
  }

  private void setFailure(RewardException error) {
    if (!isOver()) {
      failure = error;
    }
  }

  private void await(Optional<Duration> one, Optional<Duration> other) throws InterruptedException {
    Duration until = one.isPresent() && other.isPresent() ? min(one.get(), other.get()) : one.or(() -> other).orElse(null);
    if (until == null) {
      changed.await();
    } else {
      // A wait of no time would spin; a day is less than a long holds.
      Duration left = min(max(until.minus(now()), Duration.ofMillis(1)), Duration.ofDays(1));
      changed.await(left.toNanos(), TimeUnit.NANOSECONDS);
    }
  }

  private void tell() {
    changed.signalAll();
    tellCaller();
  }

  private void tellCaller() {
    if (session.hasResult() || isOver()) {
      readable.signalAll();
    }
    if (session.hasRoom() || session.hasSourceEnded() || failure != null) {
      roomy.signalAll();
    }
  }

  private void locked(Runnable action) {
    lock.lock();
    try {
      action.run();
      tell();
    } finally {
      lock.unlock();
    }
  }

  private Duration now() {
    return Duration.ofNanos(System.nanoTime() - start);
  }

  private static RewardException unavailable(String description) {
    return new RewardException(Status.Code.UNAVAILABLE, Reason.UNAVAILABLE, description);
  }

  private static Duration min(Duration one, Duration other) {
    return one.compareTo(other) <= 0 ? one : other;
  }

  private static Duration max(Duration one, Duration other) {
    return one.compareTo(other) >= 0 ? one : other;
  }
}
