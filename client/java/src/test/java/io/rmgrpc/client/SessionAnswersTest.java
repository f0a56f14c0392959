package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status.Code;
import io.rmgrpc.v1.ItemResult;
import io.rmgrpc.v1.ScoreBatchResponse;
import java.util.List;
import org.junit.jupiter.api.Test;

class SessionAnswersTest {
  private static Settings.Builder submission() {
    return Settings.builder("127.0.0.1:1").ordering(Ordering.SUBMISSION);
  }

  @Test
  void skipsMessagesThatItDoesNotKnow() {
    Script script = new Script().takes("a").opens().says(ScoreBatchResponse.getDefaultInstance());
    assertEquals(List.of("0"), script.sent());
  }

  @Test
  void skipsResultsThatAreNotOwed() {
    Script script = new Script().takes("a", "b").opens(1, 0);
    script.sent();
    script.scores("0", 1).scores("0", 2).scores("1", 3).scores("00", 4).scores("stranger", 5);
    assertEquals(List.of("a 1.0"), script.results());
  }

  @Test
  void takesAnOutcomeThatItDoesNotKnowForAnError() {
    Script script = new Script().takes("a").opens();
    script.sent();
    script.answers(ItemResult.newBuilder().setId("0").build());
    assertEquals(List.of("a INTERNAL"), script.results());
  }

  @Test
  void keepsReasonsThatItDoesNotKnow() {
    Script script = new Script().takes("a").opens();
    script.sent();
    script.refuses("0", Code.INVALID_ARGUMENT, "NEW_REASON", -1);
    assertEquals(List.of("a NEW_REASON"), script.results());
  }

  @Test
  void holdsResultsBackInSubmissionOrder() {
    Script script = new Script(submission()).takes("a", "b", "c").opens();
    script.sent();
    script.scores("2", 2).scores("1", 1);
    assertEquals(List.of(), script.results());
    script.refuses("0", Code.INTERNAL, "SCORER_FAILED", -1);
    assertEquals(List.of("a SCORER_FAILED", "b 1.0", "c 2.0"), script.results());
  }

  @Test
  void countsHeldResultsAsUnread() {
    Script script = new Script(submission()).takes("a", "b").opens(2, 0);
    script.sent();
    assertTrue(script.scores("1", 1).session.hasRoom());
    script.takes("c").sent();
    assertFalse(script.scores("2", 2).session.hasRoom(), "though only one is on its way");
    script.scores("0", 0).results();
    assertTrue(script.session.hasRoom());
  }
}
