import com.google.gson.JsonObject;
import io.rmgrpc.client.Result;
import io.rmgrpc.client.RewardClient;
import io.rmgrpc.client.RewardException;
import io.rmgrpc.client.RewardStream;
import io.rmgrpc.client.Settings;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Optional;

/** Scores JSON lines from standard input as they come, and writes a line for each result as it is ready. */
public final class ScoreJsonl {
  private static final int STREAM_FAILED = 1;
  private static final int WRONG_ARGUMENTS = 2;

  private ScoreJsonl() {}

  /** Flags are told by {@link Flags}. */
  public static void main(String[] arguments) {
    RewardClient client;
    try {
      Settings settings = Flags.parse(arguments, System.getenv());
      client = RewardClient.connect(settings);
    } catch (RewardException error) {
      System.err.println("score-jsonl: " + error.field() + ": " + error.description());
      System.exit(WRONG_ARGUMENTS);
      return;
    }
    boolean isDone;
    try (client; RewardStream stream = client.openStream()) {
      startSending(stream);
      isDone = printResults(stream);
    }
    System.exit(isDone ? 0 : STREAM_FAILED); // The sender may still wait for standard input.
  }

  private static boolean printResults(RewardStream stream) {
    PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
    try {
      for (Result result : stream) {
        print(out, ResultJson.of(result));
      }
      return true;
    } catch (RewardException error) {
      JsonObject line = new JsonObject();
      line.add("stream_error", ResultJson.of(error));
      print(out, line);
      return false;
    }
  }

  private static void print(PrintStream out, JsonObject line) {
    out.print(line + "\n");
    out.flush();
  }

  private static void startSending(RewardStream stream) {
    Thread sender = new Thread(() -> {
      try {
        send(stream);
      } catch (RewardException | InterruptedException error) {
        // The stream has failed: the printer meets the same error, and tells it.
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    });
    sender.setUncaughtExceptionHandler((thread, error) -> {
      System.err.println("score-jsonl: standard input cannot be read: " + error);
      System.exit(STREAM_FAILED); // Else the printer would wait for ever.
    });
    sender.setDaemon(true);
    sender.start();
  }

  private static void send(RewardStream stream) throws IOException, InterruptedException {
    LineReader lines = new LineReader(System.in);
    Optional<byte[]> line;
    while ((line = lines.next()).isPresent()) {
      Line parsed = Line.parse(line.get());
      if (parsed instanceof Line.Entry entry) {
        stream.send(entry.item());
      } else if (parsed instanceof Line.Bad bad) {
        stream.reject(bad.id(), bad.error());
      } else if (parsed instanceof Line.Cancel cancel) {
        stream.cancel(cancel.id());
      }
    }
    stream.finish();
  }
}
