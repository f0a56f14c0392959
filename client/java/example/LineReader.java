import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.Optional;

/** Lines as bytes, each as soon as it is there: decoding is for the line alone, so that a garbled one harms no other. */
final class LineReader {
  private final InputStream in;

  LineReader(InputStream in) {
    this.in = new BufferedInputStream(in, 1 << 16);
  }

  /** The next line, without its end; empty after the last. */
  Optional<byte[]> next() throws IOException {
    ByteArrayOutputStream line = new ByteArrayOutputStream();
    int next = in.read();
    if (next < 0) {
      return Optional.empty();
    }
    while (next >= 0 && next != '\n') {
      line.write(next);
      next = in.read();
    }
    return Optional.of(line.toByteArray());
  }
}
