package io.rmgrpc.client;

import io.rmgrpc.v1.ContentPart;
import io.rmgrpc.v1.Conversation;
import io.rmgrpc.v1.Item;
import io.rmgrpc.v1.Message;
import java.util.List;

/** Short ways to write conversations of plain text; their builders reach the rest. */
public final class Chat {
  private Chat() {}

  /** A message of the role {@code user}. */
  public static Message user(String text) {
    return message("user", text);
  }

  /** A message of the role {@code assistant}; the last one of a conversation is what is scored. */
  public static Message assistant(String text) {
    return message("assistant", text);
  }

  /** A message of the role {@code system}. */
  public static Message system(String text) {
    return message("system", text);
  }

  /** A message of any role. */
  public static Message message(String role, String text) {
    return Message.newBuilder().setRole(role).addContent(ContentPart.newBuilder().setText(text)).build();
  }

  /** A conversation, oldest message first. */
  public static Conversation conversation(Message... messages) {
    return Conversation.newBuilder().addAllMessages(List.of(messages)).build();
  }

  /** An item around a conversation, without an id: its position on the stream becomes its id. */
  public static Item item(Message... messages) {
    return Item.newBuilder().setConversation(conversation(messages)).build();
  }
}
