package io.rmgrpc.client;

import io.grpc.Status;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.rmgrpc.v1.RewardServiceGrpc.RewardServiceStub;
import io.rmgrpc.v1.ScoreBatchRequest;
import io.rmgrpc.v1.ScoreBatchResponse;
import java.util.Optional;
import java.util.function.Consumer;

/** One call of ScoreBatch. Its methods are for the thread that opened it; what it hears, it tells on gRPC's threads. */
final class Connection {
  private final Consumer<ScoreBatchResponse> onResponse;
  private final Runnable onChange;
  private ClientCallStreamObserver<ScoreBatchRequest> call;
  private volatile Optional<End> end = Optional.empty();

  /** How a call ended; the error is null where it ended well. */
  record End(RewardException error) {}

  /**
   * @param onResponse hears each message of the server
   * @param onChange hears that the call can take more, or has ended
   */
  Connection(Consumer<ScoreBatchResponse> onResponse, Runnable onChange) {
    this.onResponse = onResponse;
    this.onChange = onChange;
  }

  void open(RewardServiceStub stub) {
    stub.scoreBatch(new Listener());
  }

  /** Whether a message would be written at once instead of being kept in memory. */
  boolean isReady() {
    return call.isReady();
  }

  void send(ScoreBatchRequest message) {
    call.onNext(message);
  }

  void halfClose() {
    call.onCompleted();
  }

  /** Ends the call, if it has not ended by itself. */
  void cancel() {
    call.cancel("no longer needed", null);
  }

  /** How the call ended, once it has. */
  Optional<End> end() {
    return end;
  }

  private final class Listener implements ClientResponseObserver<ScoreBatchRequest, ScoreBatchResponse> {
    @Override
    public void beforeStart(ClientCallStreamObserver<ScoreBatchRequest> requests) {
      call = requests;
      requests.setOnReadyHandler(onChange);
    }

    @Override
    public void onNext(ScoreBatchResponse response) {
      onResponse.accept(response);
    }

    @Override
    public void onError(Throwable thrown) {
      Status status = Status.fromThrowable(thrown);
      RewardException error = Failures.of(status, Status.trailersFromThrowable(thrown));
      end = Optional.of(new End(error));
      onChange.run();
    }

    @Override
    public void onCompleted() {
      end = Optional.of(new End(null));
      onChange.run();
    }
  }
}
