package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.grpc.Status.Code;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class SessionRetryTest {
  private static Settings.Builder settings() {
    return Settings.builder("127.0.0.1:1").attempts(3).reconnect(Script.seconds(10));
  }

  private static Script overloads(Script script) {
    return script.refuses("0", Code.RESOURCE_EXHAUSTED, "OVERLOADED", 0.2);
  }

  private static Script isDown(Script script) {
    return script.refuses("0", Code.UNAVAILABLE, "UNAVAILABLE", 1);
  }

  @Test
  void restsForTheDelayTimesTheAttempts() {
    Script script = new Script(settings()).takes("a").opens();
    script.sent();
    overloads(script);
    assertEquals(Optional.of(Script.seconds(0.2)), script.session.nextWakeup());
    assertEquals(List.of(), script.passes(0.199).sent());
    assertEquals(List.of("0"), script.passes(0.001).sent());
    overloads(script);
    assertEquals(List.of(), script.passes(0.399).sent());
    assertEquals(List.of("0"), script.passes(0.001).sent());
    script.scores("0", 1);
    assertEquals(List.of("a 1.0"), script.results());
  }

  @Test
  void givesTheErrorAfterTheLastAttempt() {
    Script script = new Script(settings()).takes("a").opens();
    for (int at = 0; at < 3; at++) {
      assertEquals(List.of(), script.results());
      assertEquals(List.of("0"), script.passes(1).sent());
      overloads(script);
    }
    assertEquals(List.of("a OVERLOADED"), script.results());
  }

  @Test
  void givesTheErrorWhereTheDeadlineComesFirst() {
    Script script = new Script(settings().timeout(Script.seconds(0.2))).takes("a").opens();
    script.sent();
    overloads(script);
    assertEquals(List.of("a OVERLOADED"), script.results());
  }

  @Test
  void givesErrorsWithoutADelayAtOnce() {
    Script script = new Script(settings()).takes("a").opens();
    script.sent();
    script.refuses("0", Code.UNAVAILABLE, "UNAVAILABLE", -1);
    assertEquals(List.of("a UNAVAILABLE"), script.results());
  }

  @Test
  void freesTheWindowWhileItRests() {
    Script script = new Script(settings()).takes("a", "b").opens(1, 0);
    script.sent();
    assertEquals(List.of("1"), overloads(script).sent());
  }

  @Test
  void triesAnUnavailableServerForAsLongAsALostOne() {
    Script script = new Script(settings()).takes("a").opens();
    for (int at = 0; at < 10; at++) {
      assertEquals(List.of("0"), script.sent());
      isDown(script).passes(1);
      assertEquals(List.of(), script.results());
    }
    script.sent();
    isDown(script);
    assertEquals(List.of("a UNAVAILABLE"), script.results());
  }

  @Test
  void countsALaterOutageAnew() {
    Script script = new Script(settings()).takes("a").opens();
    script.sent();
    isDown(script).passes(1).sent();
    script.passes(6); // The answer that it is down again comes 7 s after the first, whose delay was 1 s.
    isDown(script).passes(1);
    assertEquals(List.of("0"), script.sent());
    script.passes(5);
    isDown(script);
    assertEquals(List.of(), script.results(), "13 s after the first answer, and 6 s after that of this outage");
  }

  @Test
  void sendsWhatADrainingServerRefusesOnTheNextConnection() {
    Script script = new Script(settings()).takes("a", "b").opens(1, 0);
    script.sent();
    script.refuses("0", Code.UNAVAILABLE, "DRAINING", 5);
    assertEquals(List.of(), script.sent());
    assertEquals(List.of("1", "0"), script.isLost().opens().sent());
    assertEquals(List.of(), script.results());
  }

  @Test
  void sendsADrainingServerNothingMore() {
    Script script = new Script(settings()).takes("a", "b").opens(1, 0);
    script.sent();
    script.drains().scores("0", 0);
    assertEquals(List.of("a 0.0"), script.results());
    assertEquals(List.of(), script.sent());
    assertEquals(List.of("1"), script.isLost().opens().sent());
  }
}
