package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.rmgrpc.v1.Draining;
import io.rmgrpc.v1.Item;
import io.rmgrpc.v1.ItemResult;
import io.rmgrpc.v1.Limits;
import io.rmgrpc.v1.ModelInfo;
import io.rmgrpc.v1.Results;
import io.rmgrpc.v1.Score;
import io.rmgrpc.v1.ScoreBatchRequest;
import io.rmgrpc.v1.ScoreBatchResponse;
import io.rmgrpc.v1.StreamOpened;
import io.rmgrpc.v1.Window;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** A session between a caller, a server and a clock that a test plays. */
final class Script {
  final Session session;
  private Duration now = Duration.ZERO;

  Script(Settings.Builder settings) {
    session = new Session(settings.build());
  }

  Script() {
    this(Settings.builder("127.0.0.1:1"));
  }

  Duration now() {
    return now;
  }

  Script passes(double seconds) {
    now = now.plus(seconds(seconds));
    session.expire(now);
    return this;
  }

  // The caller.

  Script takes(String... ids) {
    for (String id : ids) {
      takes(Chat.item(Chat.user("?"), Chat.assistant("!")).toBuilder().setId(id).build());
    }
    return this;
  }

  Script takes(Item item) {
    session.take(item, now);
    return this;
  }

  /** The results that are ready, as "id score" or "id REASON". */
  List<String> results() {
    List<String> lines = new ArrayList<>();
    for (Optional<Result> result = session.pollResult(); result.isPresent(); result = session.pollResult()) {
      lines.add(result.get().id() + " " + outcome(result.get()));
    }
    return lines;
  }

  private static String outcome(Result result) {
    return result instanceof Result.Failed failed ? failed.error().reason() : Float.toString(result.score().getScore());
  }

  // The server.

  Script opens(int windowItems, long windowBytes) {
    return opens(windowItems, windowBytes, 0);
  }

  Script opens(int windowItems, long windowBytes, long maxMessageBytes) {
    ModelInfo model = ModelInfo.newBuilder().setLimits(Limits.newBuilder().setMaxMessageBytes(maxMessageBytes)).build();
    StreamOpened opened = StreamOpened.newBuilder().setModel(model).setWindow(window(windowItems, windowBytes)).build();
    return says(ScoreBatchResponse.newBuilder().setOpened(opened).build());
  }

  Script opens() {
    return opens(100, 0);
  }

  Script sets(int windowItems, long windowBytes) {
    return says(ScoreBatchResponse.newBuilder().setWindow(window(windowItems, windowBytes)).build());
  }

  Script drains() {
    return says(ScoreBatchResponse.newBuilder().setDraining(Draining.newBuilder().setReason("upgrade")).build());
  }

  Script scores(String wireId, float score) {
    return answers(ItemResult.newBuilder().setId(wireId).setScore(Score.newBuilder().setScore(score)).build());
  }

  Script refuses(String wireId, Status.Code code, String reason, double retrySeconds) {
    return answers(ItemResult.newBuilder().setId(wireId).setError(status(code, reason, retrySeconds)).build());
  }

  Script answers(ItemResult result) {
    return says(ScoreBatchResponse.newBuilder().setResults(Results.newBuilder().addResults(result)).build());
  }

  Script says(ScoreBatchResponse response) {
    session.receive(response, now);
    return this;
  }

  Script isLost() {
    session.disconnected();
    return this;
  }

  // What goes to the server.

  /** The next message; there must be one. */
  ScoreBatchRequest message() {
    Optional<ScoreBatchRequest> message = session.nextMessage(now);
    assertTrue(message.isPresent(), "nothing is to be sent");
    return message.get();
  }

  /** The ids of all items that are sent now. */
  List<String> sent() {
    List<String> ids = new ArrayList<>();
    for (Optional<ScoreBatchRequest> next = session.nextMessage(now); next.isPresent(); next = session.nextMessage(now)) {
      next.get().getItems().getItemsList().forEach(item -> ids.add(item.getId()));
    }
    return ids;
  }

  static com.google.rpc.Status status(Status.Code code, String reason, double retrySeconds) {
    com.google.rpc.Status.Builder status = com.google.rpc.Status.newBuilder().setCode(code.value()).setMessage("no");
    status.addDetails(Any.pack(ErrorInfo.newBuilder().setReason(reason).setDomain("rm_grpc").build()));
    if (retrySeconds >= 0) {
      RetryInfo retry = RetryInfo.newBuilder().setRetryDelay(Durations.toProto(seconds(retrySeconds))).build();
      status.addDetails(Any.pack(retry));
    }
    return status.build();
  }

  private static Window window(int items, long bytes) {
    return Window.newBuilder().setItems(items).setBytes(bytes).build();
  }

  static Duration seconds(double seconds) {
    return Duration.ofMillis(Math.round(seconds * 1000));
  }
}
