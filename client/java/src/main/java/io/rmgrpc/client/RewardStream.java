package io.rmgrpc.client;

import io.rmgrpc.v1.Conversation;
import io.rmgrpc.v1.Item;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Optional;

/**
 * One stream: items in, exactly one result out for each, as it is ready. A lost connection is opened again, and what was
 * unanswered is sent again.
 *
 * <p>Items on their way, and results that are not read yet, are each bounded by the server's window (about a thousand): {@link #send}
 * waits. So send and read from two threads, or let {@link #sendAll} send. All methods may be called from any thread.
 */
public final class RewardStream implements Iterable<Result>, AutoCloseable {
  private final Worker worker;
  private volatile Thread sender;

  RewardStream(Worker worker) {
    this.worker = worker;
    worker.start();
  }

  /**
   * Sends an item, once there is room for it.
   *
   * <p>An item that cannot be sent gets an error as its result; this throws for the stream alone.
   *
   * @return the item's position on the stream
   * @throws RewardException the stream has failed as a whole
   * @throws IllegalStateException {@link #finish} was called
   */
  public long send(Item item) throws InterruptedException {
    return worker.send(item);
  }

  /** Sends a conversation as an item without an id; otherwise as {@link #send(Item)}. */
  public long send(Conversation conversation) throws InterruptedException {
    return send(Item.newBuilder().setConversation(conversation).build());
  }

  /**
   * Takes the next position for an item that could not be made, with the error as its result: for sources whose positions are to
   * stay those of the results.
   *
   * @param id the item's id; its position where empty
   * @return the position
   * @throws RewardException the stream has failed as a whole
   */
  public long reject(String id, RewardException error) throws InterruptedException {
    return worker.reject(id, error);
  }

  /**
   * Sends items from a thread of its own, and then finishes the stream. They are drawn as there is room for them. If drawing one
   * throws, the stream fails.
   *
   * @return this stream
   */
  public RewardStream sendAll(Iterable<Item> items) {
    Thread thread = new Thread(() -> drain(items), "rm-grpc-sender");
    thread.setDaemon(true);
    sender = thread;
    thread.start();
    return this;
  }

  private void drain(Iterable<Item> items) {
    try {
      for (Item item : items) {
        send(item);
      }
      finish();
    } catch (InterruptedException error) {
      fail("sending was interrupted", error);
    } catch (RuntimeException error) {
      fail("the source of the items failed: " + error, error); // Does nothing where it was the stream that failed.
    }
  }

  /** Says that no more items come. The results end when each item has one. */
  public void finish() {
    worker.finish();
  }

  /**
   * Takes back the item at a position. Its result is CANCELLED, unless the server has scored it or is about to; where it has its
   * result already, nothing happens.
   */
  public void cancel(long index) {
    worker.withdraw(index);
  }

  /** Takes back every item with this id that has no result yet; otherwise as {@link #cancel(long)}. */
  public void cancel(String id) {
    worker.withdraw(id);
  }

  /**
   * Waits for the next result.
   *
   * @return the result; empty after the last
   * @throws RewardException the stream has failed as a whole; so does every later call
   */
  public Optional<Result> read() throws InterruptedException {
    return worker.read();
  }

  /**
   * The results as they are ready, until each item has one; as {@link #read}. All iterators of a stream share its results.
   *
   * <p>A thread that is interrupted while it waits gets a {@link RewardException} with the code CANCELLED, and stays interrupted.
   */
  @Override
  public Iterator<Result> iterator() {
    return new Results();
  }

  /** Ends the stream; items without a result are given up, and reading them fails. */
  @Override
  public void close() {
    fail("the stream was closed", null);
    Thread sending = sender;
    if (sending != null) {
      sending.interrupt();
    }
    try {
      worker.join();
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
    }
  }

  private void fail(String description, Throwable cause) {
    worker.fail(cancelled(description).causedBy(cause));
  }

  private static RewardException cancelled(String description) {
    return new RewardException(io.grpc.Status.Code.CANCELLED, Reason.CANCELLED, description);
  }

  private final class Results implements Iterator<Result> {
    private Optional<Result> next = Optional.empty();

    @Override
    public boolean hasNext() {
      if (next.isEmpty()) {
        try {
          next = read();
        } catch (InterruptedException error) {
          Thread.currentThread().interrupt();
          throw cancelled("reading was interrupted").causedBy(error);
        }
      }
      return next.isPresent();
    }

    @Override
    public Result next() {
      if (!hasNext()) {
        throw new NoSuchElementException("every item has its result");
      }
      Result result = next.get();
      next = Optional.empty();
      return result;
    }
  }
}
