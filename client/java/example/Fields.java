import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.rmgrpc.client.RewardException;
import java.util.Set;

/** Typed reading of JSON, with errors that name the place. */
final class Fields {
  private Fields() {}

  static JsonObject object(JsonElement json, String path) {
    if (!json.isJsonObject()) {
      throw RewardException.invalid(path, "must be an object");
    }
    return json.getAsJsonObject();
  }

  static JsonArray array(JsonElement json, String path) {
    if (!json.isJsonArray()) {
      throw RewardException.invalid(path, "must be an array");
    }
    return json.getAsJsonArray();
  }

  static String text(JsonElement json, String path) {
    if (!json.isJsonPrimitive() || !json.getAsJsonPrimitive().isString()) {
      throw RewardException.invalid(path, "must be a string");
    }
    return json.getAsString();
  }

  /** A field of text; empty where it is absent or null. */
  static String text(JsonObject object, String name, String path) {
    JsonElement value = object.get(name);
    return value == null || value.isJsonNull() ? "" : text(value, within(path, name));
  }

  /** Refuses fields that nobody would read. */
  static void allow(JsonObject object, String... names) {
    Set<String> known = Set.of(names);
    for (String name : object.keySet()) {
      if (!known.contains(name)) {
        throw RewardException.invalid(name, "is unknown; beside each other there may be " + String.join(", ", names));
      }
    }
  }

  static String within(String path, String name) {
    return path.isEmpty() ? name : path + "." + name;
  }
}
