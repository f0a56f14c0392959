import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Struct;
import com.google.protobuf.util.JsonFormat;
import io.rmgrpc.client.RewardException;
import io.rmgrpc.v1.ContentPart;
import io.rmgrpc.v1.Conversation;
import io.rmgrpc.v1.Item;
import io.rmgrpc.v1.Message;
import io.rmgrpc.v1.ToolCall;

/** Items from JSON, with messages in the OpenAI shape. */
final class ItemJson {
  private ItemJson() {}

  static Item item(JsonObject object, String id) {
    Item.Builder item = Item.newBuilder().setId(id).setGroup(Fields.text(object, "group", ""));
    boolean hasMessages = object.has("messages");
    if (hasMessages == object.has("text")) {
      throw RewardException.invalid("", "an item needs either messages or text");
    }
    if (hasMessages) {
      Fields.allow(object, "id", "messages", "tools", "timeout", "group", "metadata");
      item.setConversation(conversation(object));
    } else {
      Fields.allow(object, "id", "text", "timeout", "group", "metadata");
      item.setText(Fields.text(object.get("text"), "text"));
    }
    if (isGiven(object, "timeout")) {
      item.setTimeout(timeout(object.get("timeout")));
    }
    if (isGiven(object, "metadata")) {
      item.setMetadata(struct(Fields.object(object.get("metadata"), "metadata")));
    }
    return item.build();
  }

  private static Conversation conversation(JsonObject object) {
    Conversation.Builder conversation = Conversation.newBuilder();
    JsonArray messages = Fields.array(object.get("messages"), "messages");
    for (int at = 0; at < messages.size(); at++) {
      conversation.addMessages(message(messages.get(at), "messages[" + at + "]"));
    }
    if (isGiven(object, "tools")) {
      conversation.setToolsJson(Fields.array(object.get("tools"), "tools").toString());
    }
    return conversation.build();
  }

  private static Message message(JsonElement json, String path) {
    JsonObject object = Fields.object(json, path);
    if (!isGiven(object, "role")) {
      throw RewardException.invalid(path + ".role", "is missing");
    }
    Message.Builder message = Message.newBuilder()
        .setRole(Fields.text(object, "role", path))
        .setName(Fields.text(object, "name", path))
        .setToolCallId(Fields.text(object, "tool_call_id", path))
        .setReasoningContent(Fields.text(object, "reasoning_content", path));
    if (isGiven(object, "content")) {
      addContent(message, object.get("content"), path + ".content");
    }
    if (isGiven(object, "tool_calls")) {
      JsonArray calls = Fields.array(object.get("tool_calls"), path + ".tool_calls");
      for (int at = 0; at < calls.size(); at++) {
        message.addToolCalls(toolCall(calls.get(at), path + ".tool_calls[" + at + "]"));
      }
    }
    return message.build();
  }

  /** Text, or the parts of a message of which each is text. */
  private static void addContent(Message.Builder message, JsonElement json, String path) {
    if (!json.isJsonArray()) {
      message.addContent(part(Fields.text(json, path)));
      return;
    }
    JsonArray parts = json.getAsJsonArray();
    for (int at = 0; at < parts.size(); at++) {
      String where = path + "[" + at + "]";
      JsonObject object = Fields.object(parts.get(at), where);
      if (!isGiven(object, "text")) {
        throw RewardException.invalid(where, "only parts of text can be scored");
      }
      message.addContent(part(Fields.text(object, "text", where)));
    }
  }

  private static ContentPart part(String text) {
    return ContentPart.newBuilder().setText(text).build();
  }

  private static ToolCall toolCall(JsonElement json, String path) {
    JsonObject object = Fields.object(json, path);
    if (!isGiven(object, "function")) {
      throw RewardException.invalid(path + ".function", "is missing");
    }
    JsonObject function = Fields.object(object.get("function"), path + ".function");
    return ToolCall.newBuilder()
        .setId(Fields.text(object, "id", path))
        .setName(Fields.text(function, "name", path + ".function"))
        .setArgumentsJson(Fields.text(function, "arguments", path + ".function"))
        .build();
  }

  private static Duration timeout(JsonElement json) {
    if (!json.isJsonPrimitive() || !json.getAsJsonPrimitive().isNumber()) {
      throw RewardException.invalid("timeout", "must be a number of seconds");
    }
    java.time.Duration timeout = Seconds.of(json.getAsString(), "timeout");
    return Duration.newBuilder().setSeconds(timeout.getSeconds()).setNanos(timeout.getNano()).build();
  }

  private static Struct struct(JsonObject object) {
    Struct.Builder struct = Struct.newBuilder();
    try {
      JsonFormat.parser().merge(object.toString(), struct);
    } catch (InvalidProtocolBufferException error) {
      throw RewardException.invalid("metadata", "cannot be sent: " + error.getMessage());
    }
    return struct.build();
  }

  private static boolean isGiven(JsonObject object, String name) {
    return object.has(name) && !object.get(name).isJsonNull();
  }
}
