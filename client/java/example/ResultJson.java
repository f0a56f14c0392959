import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import io.rmgrpc.client.Result;
import io.rmgrpc.client.RewardException;
import io.rmgrpc.v1.Attribute;
import io.rmgrpc.v1.Score;
import io.rmgrpc.v1.StepScore;

/** Results as JSON. A float is written with the digits that give it back. */
final class ResultJson {
  private ResultJson() {}

  static JsonObject of(Result result) {
    JsonObject line = new JsonObject();
    line.addProperty("id", result.id());
    line.addProperty("index", result.index());
    if (result instanceof Result.Scored scored) {
      add(line, scored.score());
    } else if (result instanceof Result.Failed failed) {
      line.add("error", of(failed.error()));
    }
    return line;
  }

  static JsonObject of(RewardException error) {
    JsonObject object = new JsonObject();
    object.addProperty("code", error.code().name());
    object.addProperty("reason", error.reason());
    object.addProperty("message", error.description());
    if (!error.field().isEmpty()) {
      object.addProperty("field", error.field());
    }
    error.retryDelay().ifPresent(delay -> object.addProperty("retry_delay", delay.toNanos() / 1e9));
    return object;
  }

  private static void add(JsonObject line, Score score) {
    line.addProperty("score", score.getScore());
    line.addProperty("raw_score", score.getRawScore());
    line.addProperty("token_count", score.getTokenCount());
    line.addProperty("model_digest", score.getModelDigest());
    if (score.getAttributesCount() > 0) {
      JsonObject attributes = new JsonObject();
      for (Attribute attribute : score.getAttributesList()) {
        attributes.addProperty(attribute.getName(), attribute.getValue());
      }
      line.add("attributes", attributes);
    }
    if (score.getStepsCount() > 0) {
      JsonArray steps = new JsonArray();
      score.getStepsList().forEach(step -> steps.add(of(step)));
      line.add("steps", steps);
    }
  }

  private static JsonObject of(StepScore step) {
    JsonObject object = new JsonObject();
    object.addProperty("score", step.getScore());
    object.addProperty("token_offset", step.getTokenOffset());
    object.addProperty("char_start", step.getCharStart());
    object.addProperty("char_end", step.getCharEnd());
    return object;
  }
}
