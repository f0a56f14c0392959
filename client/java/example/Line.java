import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.TypeAdapter;
import com.google.gson.stream.JsonReader;
import io.rmgrpc.client.RewardException;
import io.rmgrpc.v1.Item;
import java.io.IOException;
import java.io.StringReader;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;

/** What a line of input says. */
sealed interface Line {
  /** Without the leniency of {@code JsonParser}. */
  TypeAdapter<JsonElement> ADAPTER = new Gson().getAdapter(JsonElement.class);

  /** Nothing. */
  record Blank() implements Line {}

  /** An item to score. */
  record Entry(Item item) implements Line {}

  /** Items that are no longer wanted. */
  record Cancel(String id) implements Line {}

  /** Neither: a line that is a result of its own. Its id is empty where none could be read. */
  record Bad(String id, RewardException error) implements Line {}

  /** Reads a line of UTF-8. */
  static Line parse(byte[] line) {
    JsonElement json;
    try {
      String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(line)).toString();
      if (text.isBlank()) {
        return new Blank();
      }
      json = strictly(text);
    } catch (CharacterCodingException error) {
      return new Bad("", RewardException.invalid("", "the line is not UTF-8"));
    } catch (IOException | JsonParseException error) {
      return new Bad("", RewardException.invalid("", "the line is not one JSON value" + place(error.getMessage())));
    }
    String id = "";
    try {
      JsonObject object = Fields.object(json, "");
      if (object.has("cancel")) {
        Fields.allow(object, "cancel");
        return new Cancel(Fields.text(object, "cancel", ""));
      }
      id = Fields.text(object, "id", "");
      return new Entry(ItemJson.item(object, id));
    } catch (RewardException error) {
      return new Bad(id, error);
    } catch (StackOverflowError error) {
      return new Bad(id, RewardException.invalid("", "the line is nested too deeply"));
    }
  }

  /** One JSON value and nothing behind it; Gson's own shortcuts take much that is no JSON. */
  private static JsonElement strictly(String text) throws IOException {
    JsonReader reader = new JsonReader(new StringReader(text));
    JsonElement json = ADAPTER.read(reader);
    reader.peek(); // Throws where anything follows.
    return json;
  }

  /** Where Gson stopped; around it stands advice to programmers. */
  private static String place(String message) {
    int at = message == null ? -1 : message.indexOf(" at line");
    return at < 0 ? "" : ":" + message.substring(at);
  }
}
