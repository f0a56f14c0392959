import io.rmgrpc.client.Ordering;
import io.rmgrpc.client.RewardException;
import io.rmgrpc.client.Settings;
import io.rmgrpc.v1.Activation;
import io.rmgrpc.v1.ControlTokens;
import io.rmgrpc.v1.ForeignMarkers;
import io.rmgrpc.v1.ScoreOptions;
import io.rmgrpc.v1.SpecialTokens;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** The program's flags: those of the settings, with dashes, each with its value as the next argument. */
final class Flags {
  private static final String DEFAULT_ADDRESS = "127.0.0.1:50051";
  private static final String TOKEN_VARIABLE = "RM_GRPC_CLIENT_TOKEN";

  private Flags() {}

  /** Settings of arguments, and the token of the environment where no argument names its file. */
  static Settings parse(String[] arguments, Map<String, String> environment) {
    List<String> given = Arrays.asList(arguments);
    int at = given.lastIndexOf("--address");
    String address = at >= 0 && at + 1 < given.size() ? given.get(at + 1) : DEFAULT_ADDRESS;
    Settings.Builder settings = Settings.builder(address).token(environment.getOrDefault(TOKEN_VARIABLE, ""));
    ScoreOptions.Builder options = ScoreOptions.newBuilder();
    for (Iterator<String> rest = given.iterator(); rest.hasNext(); ) {
      set(settings, options, rest.next(), rest);
    }
    return settings.options(options.build()).build();
  }

  private static void set(Settings.Builder settings, ScoreOptions.Builder options, String flag, Iterator<String> rest) {
    switch (flag) {
      case "--address" -> value(flag, rest);
      case "--model" -> settings.model(value(flag, rest));
      case "--ordering" -> settings.ordering(one(Ordering.class, "", flag, value(flag, rest)));
      case "--timeout" -> settings.timeout(Seconds.of(value(flag, rest), flag));
      case "--reconnect" -> settings.reconnect(Seconds.of(value(flag, rest), flag));
      case "--attempts" -> settings.attempts(count(flag, value(flag, rest)));
      case "--tls" -> settings.tls(true);
      case "--insecure" -> settings.insecure(true);
      case "--ca-file" -> settings.caFile(Path.of(value(flag, rest)));
      case "--cert-file" -> settings.certFile(Path.of(value(flag, rest)));
      case "--key-file" -> settings.keyFile(Path.of(value(flag, rest)));
      case "--server-name" -> settings.serverName(value(flag, rest));
      case "--token-file" -> settings.token(token(flag, Path.of(value(flag, rest))));
      case "--control-tokens" -> options.setControlTokens(one(ControlTokens.class, "CONTROL_TOKENS_", flag, value(flag, rest)));
      case "--foreign-markers" -> options.setForeignMarkers(one(ForeignMarkers.class, "FOREIGN_MARKERS_", flag, value(flag, rest)));
      case "--special-tokens" -> options.setSpecialTokens(one(SpecialTokens.class, "SPECIAL_TOKENS_", flag, value(flag, rest)));
      case "--activation" -> options.setActivation(one(Activation.class, "ACTIVATION_", flag, value(flag, rest)));
      default -> throw RewardException.invalid(flag, "there is no such flag");
    }
  }

  private static String value(String flag, Iterator<String> rest) {
    if (!rest.hasNext()) {
      throw RewardException.invalid(flag, "needs a value");
    }
    return rest.next();
  }

  /** The constant of that name in lower case, less the prefix that generated constants have. */
  private static <E extends Enum<E>> E one(Class<E> type, String prefix, String flag, String value) {
    for (E constant : type.getEnumConstants()) {
      String name = constant.name().substring(constant.name().startsWith(prefix) ? prefix.length() : 0).toLowerCase(Locale.ROOT);
      if (name.equals(value) && !name.equals("unspecified") && !name.equals("unrecognized")) {
        return constant;
      }
    }
    throw RewardException.invalid(flag, "has no value '" + value + "'");
  }

  private static int count(String flag, String value) {
    try {
      return Integer.parseInt(value);
    } catch (NumberFormatException error) {
      throw RewardException.invalid(flag, "must be a whole number, and is '" + value + "'");
    }
  }

  private static String token(String flag, Path path) {
    try {
      String token = Files.readString(path).strip();
      if (token.isEmpty()) {
        throw RewardException.invalid(flag, path + " is empty");
      }
      return token;
    } catch (IOException error) {
      throw RewardException.invalid(flag, path + " cannot be read: " + error);
    }
  }
}
