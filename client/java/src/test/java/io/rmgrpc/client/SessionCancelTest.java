package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.grpc.Status.Code;
import java.util.List;
import org.junit.jupiter.api.Test;

class SessionCancelTest {
  @Test
  void answersAtOnceForAnItemThatWasNotSent() {
    Script script = new Script().takes("a", "b");
    script.session.withdraw(0);
    assertEquals(List.of("a CANCELLED"), script.results());
    assertEquals(List.of("1"), script.opens().sent());
  }

  @Test
  void answersAtOnceForAnItemThatRests() {
    Script script = new Script().takes("a").opens();
    script.sent();
    script.refuses("0", Code.RESOURCE_EXHAUSTED, "OVERLOADED", 1).session.withdraw("a");
    assertEquals(List.of("a CANCELLED"), script.results());
    assertEquals(List.of(), script.passes(2).sent());
  }

  @Test
  void asksTheServerForAnItemInFlightAndWaitsForItsResult() {
    Script script = new Script().takes("a", "b").opens();
    script.sent();
    script.session.withdraw(1);
    script.session.withdraw(1);
    assertEquals(List.of("1"), script.message().getCancel().getIdsList());
    assertEquals(List.of(), script.sent());
    assertEquals(List.of(), script.results());
    script.scores("1", 1);
    assertEquals(List.of("b 1.0"), script.results(), "it was scored already");
  }

  @Test
  void takesBackEveryItemOfAnId() {
    Script script = new Script().takes("a", "b", "a", "a").opens(1, 0);
    script.sent();
    script.session.withdraw("a");
    script.session.withdraw("nobody");
    assertEquals(List.of("a CANCELLED", "a CANCELLED"), script.results());
    assertEquals(List.of("0"), script.message().getCancel().getIdsList());
  }

  @Test
  void leavesAResultAlone() {
    Script script = new Script().takes("a").opens();
    script.sent();
    script.scores("0", 1).session.withdraw(0);
    assertEquals(List.of("a 1.0"), script.results());
    assertEquals(List.of(), script.sent());
  }

  @Test
  void triesNothingAgainThatIsTakenBack() {
    Script script = new Script().takes("a").opens();
    script.sent();
    script.session.withdraw(0);
    script.refuses("0", Code.RESOURCE_EXHAUSTED, "OVERLOADED", 1);
    assertEquals(List.of("a OVERLOADED"), script.results());
  }

  @Test
  void answersForAnItemThatIsLostWhileItIsTakenBack() {
    Script script = new Script().takes("a").opens();
    script.sent();
    script.session.withdraw(0);
    script.isLost();
    assertEquals(List.of("a CANCELLED"), script.results());
    assertEquals(List.of(), script.opens().sent());
  }
}
