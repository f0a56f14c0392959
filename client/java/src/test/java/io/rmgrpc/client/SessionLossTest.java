package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import org.junit.jupiter.api.Test;

class SessionLossTest {
  private static Settings.Builder settings() {
    return Settings.builder("127.0.0.1:1").attempts(2);
  }

  @Test
  void sendsWhatWasInFlightAgainBeforeTheRest() {
    Script script = new Script(settings()).takes("a", "b", "c", "d").opens(3, 0);
    script.sent();
    script.scores("1", 1).isLost();
    assertEquals(List.of(), script.sent(), "not before the next server has opened");
    assertEquals(List.of("0", "2", "3"), script.opens().sent());
    assertEquals(List.of("b 1.0"), script.results());
  }

  @Test
  void givesUpAnItemThatWasLostTooOften() {
    Script script = new Script(settings()).takes("a").opens();
    script.sent();
    script.isLost().opens();
    assertEquals(List.of("0"), script.sent());
    script.takes("b").isLost();
    assertEquals(List.of("a UNAVAILABLE"), script.results());
    assertEquals(List.of("1"), script.opens().sent());
  }

  @Test
  void countsOnlyLossesInFlight() {
    Script script = new Script(settings()).takes("a").isLost().isLost().isLost().opens();
    assertEquals(List.of("0"), script.sent());
    assertEquals(List.of(), script.results());
  }

  @Test
  void emptiesTheWindow() {
    Script script = new Script(settings()).takes("a", "b").opens(1, 1000);
    script.sent();
    assertEquals(List.of("0", "1"), script.isLost().opens(2, 1000).sent());
  }

  @Test
  void skipsAnswersToAnEarlierConnection() {
    Script script = new Script(settings()).takes("a").opens();
    script.sent();
    script.isLost().scores("0", 1);
    assertEquals(List.of(), script.results());
  }
}
