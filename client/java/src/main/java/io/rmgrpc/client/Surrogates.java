package io.rmgrpc.client;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Looks for text that UTF-8 cannot hold; protobuf would send question marks in its place. */
final class Surrogates {
  private Surrogates() {}

  /** Path of the first text with half of a surrogate pair. */
  static Optional<String> findUnpaired(Message message) {
    for (Map.Entry<FieldDescriptor, Object> entry : message.getAllFields().entrySet()) {
      String name = entry.getKey().getName();
      if (entry.getValue() instanceof List<?> values) {
        for (int at = 0; at < values.size(); at++) {
          Optional<String> found = findIn(name + "[" + at + "]", values.get(at));
          if (found.isPresent()) {
            return found;
          }
        }
      } else {
        Optional<String> found = findIn(name, entry.getValue());
        if (found.isPresent()) {
          return found;
        }
      }
    }
    return Optional.empty();
  }

  private static Optional<String> findIn(String path, Object value) {
    if (value instanceof Message message) {
      return findUnpaired(message).map(inner -> path + "." + inner);
    }
    return value instanceof String text && hasUnpaired(text) ? Optional.of(path) : Optional.empty();
  }

  private static boolean hasUnpaired(String text) {
    for (int at = 0; at < text.length(); at++) {
      char one = text.charAt(at);
      if (!Character.isSurrogate(one)) {
        continue;
      }
      boolean isPair = at + 1 < text.length() && Character.isSurrogatePair(one, text.charAt(at + 1));
      if (!isPair) {
        return true;
      }
      at++;
    }
    return false;
  }
}
