package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status.Code;
import io.rmgrpc.v1.Item;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(30)
class RewardStreamTest {
  private FakeServer server;
  private RewardClient client;

  @BeforeEach
  void start() throws Exception {
    server = new FakeServer();
    client = RewardClient.connect(Settings.builder(server.address()).ordering(Ordering.SUBMISSION).build());
  }

  @AfterEach
  void stop() {
    client.close();
    server.close();
  }

  private static Item text(String text) {
    return Item.newBuilder().setText(text).build();
  }

  @Test
  void scoresItemsAsTheyComeUntilItIsFinished() throws Exception {
    try (RewardStream stream = client.openStream()) {
      assertEquals(0, stream.send(text("abc")));
      assertEquals(3, stream.read().orElseThrow().score().getScore());
      assertEquals(1, stream.send(text("a")));
      stream.finish();
      Iterator<Result> results = stream.iterator();
      assertTrue(results.hasNext());
      assertEquals("1", results.next().id());
      assertFalse(results.hasNext());
      assertEquals(Optional.empty(), stream.read());
      assertThrows(IllegalStateException.class, () -> stream.send(text("late")));
    }
  }

  @Test
  void scoresAListInItsOrder() {
    List<Item> items = IntStream.range(0, 100).mapToObj(at -> text("x".repeat(at))).toList();
    List<Result> results = client.score(items);
    for (int at = 0; at < 100; at++) {
      assertEquals(at, results.get(at).index());
      assertEquals(at, results.get(at).score().getScore());
    }
    assertEquals(List.of(), client.score(List.of()));
  }

  @Test
  void sendWaitsForRoomAndCanBeInterrupted() throws Exception {
    try (RewardStream stream = client.openStream()) {
      stream.send(text("a"));
      stream.read();
      for (int at = 0; at < FakeServer.WINDOW; at++) {
        stream.send(text("silence"));
      }
      Thread.currentThread().interrupt();
      assertThrows(InterruptedException.class, () -> stream.send(text("c")));
    }
  }

  @Test
  void sendsAgainWhatALostServerHadNotAnswered() throws Exception {
    try (RewardStream stream = client.openStream()) {
      stream.send(text("silence"));
      stream.cancel(99);
      int port = server.port;
      stream.send(text("a"));
      Thread.sleep(200); // By then a server has both.
      server.close();
      server = new FakeServer(port, null);
      stream.send(text("abc"));
      stream.finish();
      stream.cancel(0);
      Thread.sleep(500);
      server.close();
      server = new FakeServer(port, null);
      assertEquals(Code.CANCELLED, ((Result.Failed) stream.read().orElseThrow()).error().code());
      assertEquals(1, stream.read().orElseThrow().score().getScore());
      assertEquals(3, stream.read().orElseThrow().score().getScore());
      assertEquals(Optional.empty(), stream.read());
    }
  }

  @Test
  void failsAsAWholeForEveryLaterRead() throws Exception {
    server.refusal = io.grpc.Status.NOT_FOUND.withDescription("no such model");
    try (RewardStream stream = client.openStream()) {
      stream.send(text("a"));
      RewardException error = assertThrows(RewardException.class, stream::read);
      assertEquals(Code.NOT_FOUND, error.code());
      assertSame(error, assertThrows(RewardException.class, stream::read));
      assertSame(error, assertThrows(RewardException.class, () -> stream.send(text("b"))));
    }
  }

  @Test
  void failsWhereNoServerAnswers() throws Exception {
    server.close();
    Settings settings = Settings.builder(server.address()).reconnect(Duration.ofMillis(500)).build();
    try (RewardClient lonely = RewardClient.connect(settings); RewardStream stream = lonely.openStream()) {
      stream.send(text("a"));
      RewardException error = assertThrows(RewardException.class, stream::read);
      assertEquals(Code.UNAVAILABLE, error.code());
      assertTrue(error.description().contains("Connection refused"), error.description());
    }
  }

  @Test
  void failsWhereTheSourceDoes() {
    Iterable<Item> broken = () -> {
      throw new IllegalStateException("no more disk");
    };
    RewardException error = assertThrows(RewardException.class, () -> {
      try (RewardStream stream = client.openStream().sendAll(broken)) {
        stream.read();
      }
    });
    assertTrue(error.description().contains("no more disk"), error.description());
  }

  @Test
  void closingTheClientFailsItsStreams() throws Exception {
    try (RewardStream stream = client.openStream()) {
      stream.send(text("silence"));
      Thread.sleep(200);
      client.close();
      assertEquals(Code.CANCELLED, assertThrows(RewardException.class, stream::read).code());
    }
  }

  @Test
  void closingFailsWhatIsNotRead() throws Exception {
    RewardStream stream = client.openStream();
    stream.send(text("silence"));
    stream.close();
    stream.close();
    assertEquals(Code.CANCELLED, assertThrows(RewardException.class, stream::read).code());
  }

  @Test
  void findsAServerThatIsBackForSingleCallsToo() throws Exception {
    int port = server.port;
    server.close();
    for (int at = 0; at < 5; at++) {
      assertEquals(Code.UNAVAILABLE, assertThrows(RewardException.class, client::listModels).code());
    }
    server = new FakeServer(port, null);
    Thread.sleep(100); // A channel hears of a failure a moment after the call that met it.
    assertEquals("length", client.listModels().get(0).getName());
  }
}
