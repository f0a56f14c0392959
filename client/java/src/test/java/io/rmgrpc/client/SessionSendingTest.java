package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.rmgrpc.v1.Item;
import io.rmgrpc.v1.ScoreOptions;
import io.rmgrpc.v1.SpecialTokens;
import java.util.List;
import org.junit.jupiter.api.Test;

class SessionSendingTest {
  private static Item sized(int bytes) {
    return Item.newBuilder().setText("x".repeat(bytes)).build();
  }

  @Test
  void opensWithModelAndOptions() {
    ScoreOptions options = ScoreOptions.newBuilder().setSpecialTokens(SpecialTokens.SPECIAL_TOKENS_ADD).build();
    Script script = new Script(Settings.builder("127.0.0.1:1").model("m").options(options));
    assertEquals("m", script.session.opening().getOpen().getModel());
    assertEquals(options, script.session.opening().getOpen().getOptions());
  }

  @Test
  void sendsNothingBeforeOpened() {
    Script script = new Script().takes("a");
    assertEquals(List.of(), script.sent());
    assertEquals(List.of("0"), script.opens().sent());
  }

  @Test
  void sendsPositionsAndGivesBackTheCallersIds() {
    Script script = new Script().takes("same", "", "same", "1").opens();
    assertEquals(List.of("0", "1", "2", "3"), script.sent());
    script.scores("2", 2).scores("0", 0).scores("1", 1).scores("3", 3);
    assertEquals(List.of("same 2.0", "same 0.0", "1 1.0", "1 3.0"), script.results());
  }

  @Test
  void keepsToTheWindowsItems() {
    Script script = new Script().takes("a", "b", "c").opens(2, 0);
    assertEquals(List.of("0", "1"), script.sent());
    assertEquals(List.of("2"), script.scores("1", 1).sent());
    script.takes("d");
    assertEquals(List.of(), script.sent());
    assertEquals(List.of("3"), script.sets(3, 0).sent());
  }

  @Test
  void keepsToTheWindowsBytesAsTheyAreSent() {
    Script script = new Script().takes(sized(1000)).takes(sized(1000)).takes(sized(1000));
    script.opens(100, 2100);
    assertEquals(List.of("0", "1"), script.sent());
    assertEquals(List.of("2"), script.scores("0", 0).sent());
  }

  @Test
  void sendsAnItemLargerThanTheWindowAlone() {
    Script script = new Script().takes(sized(10)).takes(sized(5000)).takes(sized(10)).opens(100, 1000);
    assertEquals(List.of("0"), script.sent());
    assertEquals(List.of("1"), script.scores("0", 0).sent());
    assertEquals(List.of("2"), script.scores("1", 1).sent());
  }

  @Test
  void putsUpTo32ItemsIntoAMessage() {
    Script script = new Script();
    for (int at = 0; at < 40; at++) {
      script.takes("");
    }
    script.opens();
    assertEquals(32, script.message().getItems().getItemsCount());
    assertEquals(8, script.message().getItems().getItemsCount());
  }

  @Test
  void putsAboutOneMegabyteIntoAMessage() {
    Script script = new Script().takes(sized(600_000)).takes(sized(300_000)).takes(sized(300_000)).takes(sized(2_000_000)).opens();
    assertEquals(2, script.message().getItems().getItemsCount());
    assertEquals(1, script.message().getItems().getItemsCount());
    assertEquals(1, script.message().getItems().getItemsCount());
  }

  @Test
  void refusesAnItemLargerThanAMessageMayBe() {
    Script script = new Script().takes("a").takes(sized(9_500)).takes("b").opens(100, 0, 10_000);
    assertEquals(List.of("0", "2"), script.sent());
    assertEquals(List.of("1 MESSAGE_TOO_LARGE"), script.results());
  }

  @Test
  void takes256ItemsBeforeItKnowsTheWindow() {
    Script script = new Script();
    for (int at = 0; at < 255; at++) {
      script.takes("");
    }
    assertTrue(script.session.hasRoom());
    assertFalse(script.takes("").session.hasRoom());
    assertTrue(script.opens(257, 0).session.hasRoom());
  }

  @Test
  void boundsUnreadResultsByTheWindowToo() {
    Script script = new Script().takes("a", "b").opens(2, 0);
    script.sent();
    assertFalse(script.session.hasRoom());
    assertTrue(script.scores("0", 0).session.hasRoom());
    assertFalse(script.scores("1", 0).session.hasRoom());
    script.results();
    assertTrue(script.session.hasRoom());
  }

  @Test
  void answersAtOnceForWhatCannotBeSent() {
    Item negative = Item.newBuilder().setId("a").setTimeout(com.google.protobuf.Duration.newBuilder().setSeconds(-1)).build();
    Item garbled = Chat.item(Chat.user("?"), Chat.assistant("\ud83d"));
    Script script = new Script().takes(negative).takes(garbled).takes("c").opens();
    assertEquals(List.of("a INVALID_REQUEST", "1 INVALID_REQUEST"), script.results());
    assertEquals(List.of("2"), script.sent());
  }

  @Test
  void givesAPositionToARejectedItem() {
    Script script = new Script();
    assertEquals(0, script.session.reject("", RewardException.invalid("", "no item")));
    assertEquals(List.of("1"), script.takes("a").opens().sent());
    assertEquals(List.of("0 INVALID_REQUEST"), script.results());
  }

  @Test
  void finishesWhenTheSourceHasEndedAndNothingIsOwed() {
    Script script = new Script().takes("a").opens();
    script.session.endSource();
    script.sent();
    assertFalse(script.session.isFinished());
    assertTrue(script.scores("0", 0).session.isFinished());
  }
}
