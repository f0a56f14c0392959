package io.rmgrpc.client;

import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.rmgrpc.v1.GetModelRequest;
import io.rmgrpc.v1.Item;
import io.rmgrpc.v1.ListModelsRequest;
import io.rmgrpc.v1.ModelInfo;
import io.rmgrpc.v1.RewardServiceGrpc;
import io.rmgrpc.v1.RewardServiceGrpc.RewardServiceBlockingStub;
import io.rmgrpc.v1.RewardServiceGrpc.RewardServiceStub;
import io.rmgrpc.v1.TokenizeRequest;
import io.rmgrpc.v1.TokenizeResponse;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * A client of one reward service, with a connection of its own. May be used by many threads at once.
 *
 * <p>Every method that asks the server throws a {@link RewardException} where it cannot answer.
 */
public final class RewardClient implements AutoCloseable {
  private final Settings settings;
  private final ManagedChannel channel;

  private RewardClient(Settings settings, ManagedChannel channel) {
    this.settings = settings;
    this.channel = channel;
  }

  /**
   * A client with these settings. It begins to connect, and does not wait for it: a server that is not there is an error of what is
   * asked of it.
   *
   * @throws RewardException a file that the settings name cannot be read, or holds something else than it should
   */
  public static RewardClient connect(Settings settings) {
    ManagedChannel channel = Channels.open(settings);
    channel.getState(true);
    return new RewardClient(settings, channel);
  }

  /** A stream of items, which is to be closed. */
  public RewardStream openStream() {
    return new RewardStream(new Worker(settings, this::streaming));
  }

  /** Scores a list over a stream: a result for each item, in the list's order. */
  public List<Result> score(List<Item> items) {
    Result[] results = new Result[items.size()];
    try (RewardStream stream = openStream().sendAll(items)) {
      for (Result result : stream) {
        results[Math.toIntExact(result.index())] = result;
      }
    }
    return List.copyOf(Arrays.asList(results));
  }

  /** The models that the server serves. */
  public List<ModelInfo> listModels() {
    return ask(stub -> stub.listModels(ListModelsRequest.getDefaultInstance())).getModelsList();
  }

  /** The model of the settings. */
  public ModelInfo getModel() {
    return getModel(settings.model());
  }

  /** One model. */
  public ModelInfo getModel(String name) {
    return ask(stub -> stub.getModel(GetModelRequest.newBuilder().setName(name).build())).getModel();
  }

  /** What the model would read for each item, and the error that scoring it would give. Items without an id get their position. */
  public TokenizeResponse tokenize(List<Item> items) {
    TokenizeRequest.Builder request = TokenizeRequest.newBuilder().setModel(settings.model()).setOptions(settings.options());
    for (Item item : items) {
      String id = item.getId().isEmpty() ? Integer.toString(request.getItemsCount()) : item.getId();
      request.addItems(item.toBuilder().setId(id));
    }
    return ask(stub -> stub.tokenize(request.build()));
  }

  /** Closes the connection; streams in work fail. */
  @Override
  public void close() {
    channel.shutdownNow();
    try {
      channel.awaitTermination(1, TimeUnit.SECONDS);
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
    }
  }

  private RewardServiceStub streaming() {
    if (channel.isShutdown()) {
      throw new RewardException(Status.Code.CANCELLED, Reason.CANCELLED, "the client was closed");
    }
    forgetFailure();
    return RewardServiceGrpc.newStub(channel);
  }

  /** Lets the next call connect: gRPC's own pauses grow to minutes, in which calls would fail as the last attempt did. */
  private void forgetFailure() {
    if (channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
      channel.enterIdle();
    }
  }

  private <T> T ask(Function<RewardServiceBlockingStub, T> call) {
    forgetFailure();
    try {
      return call.apply(RewardServiceGrpc.newBlockingStub(channel)
          .withDeadlineAfter(settings.timeout().toMillis(), TimeUnit.MILLISECONDS));
    } catch (StatusRuntimeException error) {
      throw Failures.of(Status.fromThrowable(error), error.getTrailers());
    }
  }
}
