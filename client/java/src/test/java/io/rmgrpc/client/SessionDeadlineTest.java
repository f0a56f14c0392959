package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.rmgrpc.v1.Item;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class SessionDeadlineTest {
  private static Settings.Builder settings() {
    return Settings.builder("127.0.0.1:1").timeout(Script.seconds(10));
  }

  private static double sentTimeout(Script script) {
    return Durations.of(script.message().getItems().getItems(0).getTimeout()).toMillis() / 1000.0;
  }

  @Test
  void sendsWhatIsLeftOfTheTimeout() {
    Script script = new Script(settings()).takes("a").passes(3).opens();
    assertEquals(7, sentTimeout(script));
    assertEquals(5, sentTimeout(script.passes(2).isLost().opens()));
    assertEquals(0, sentTimeout(script.passes(6).isLost().opens()));
  }

  @Test
  void letsAnItemsOwnTimeoutWin() {
    Item item = Item.newBuilder().setText("x").setTimeout(Durations.toProto(Script.seconds(2.5))).build();
    assertEquals(2.5, sentTimeout(new Script(settings()).takes(item).opens()));
  }

  @Test
  void answersFiveSecondsLaterForASilentServer() {
    Script script = new Script(settings()).takes("a").opens(1, 0);
    script.sent();
    assertEquals(Optional.of(Script.seconds(15)), script.session.nextWakeup());
    assertEquals(List.of(), script.passes(14.999).results());
    assertEquals(List.of("a DEADLINE_EXCEEDED"), script.passes(0.001).results());
    script.scores("0", 1);
    assertEquals(List.of(), script.results(), "what the server says then is too late");
    assertEquals(List.of("1"), script.takes("b").sent());
  }

  @Test
  void answersAlsoWithoutAConnection() {
    Script script = new Script(settings()).takes("a", "b");
    assertEquals(List.of("a DEADLINE_EXCEEDED", "b DEADLINE_EXCEEDED"), script.passes(15).results());
    assertEquals(List.of(), script.opens().sent());
    assertEquals(Optional.empty(), script.session.nextWakeup());
  }

  @Test
  void takesTimeoutsAsLongAsTheWireDoes() {
    Item item = Item.newBuilder().setText("x").setTimeout(Durations.toProto(Script.seconds(315_576_000_000.0))).build();
    assertEquals(315_576_000_000.0, sentTimeout(new Script(settings()).takes(item).opens()));
  }
}
