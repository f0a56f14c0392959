package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.Status.Code;
import io.grpc.netty.GrpcSslContexts;
import io.netty.handler.ssl.ClientAuth;
import io.netty.handler.ssl.SslContext;
import io.netty.handler.ssl.SslContextBuilder;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(30)
class SecurityTest {
  @TempDir static Path folder;

  private static Pem own;
  private static Pem other;
  private static Pem caller;
  private static FakeServer server;

  @BeforeAll
  static void start() throws Exception {
    own = Pem.make(folder, "localhost");
    other = Pem.make(folder, "elsewhere");
    caller = Pem.make(folder, "caller");
    server = new FakeServer(0, encryption(ClientAuth.OPTIONAL));
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  private static SslContext encryption(ClientAuth callers) throws Exception {
    SslContextBuilder builder = SslContextBuilder.forServer(own.cert().toFile(), own.key().toFile());
    return GrpcSslContexts.configure(builder).trustManager(caller.cert().toFile()).clientAuth(callers).build();
  }

  private static Settings.Builder to(FakeServer server) {
    return Settings.builder("localhost:" + server.port);
  }

  private static void ask(Settings.Builder settings) {
    try (RewardClient client = RewardClient.connect(settings.build())) {
      client.listModels();
    }
  }

  private static void assertLost(Settings.Builder settings) {
    RewardException error = assertThrows(RewardException.class, () -> ask(settings));
    assertEquals(Code.UNAVAILABLE, error.code());
    assertFalse(error.toString().contains("s3cret"), error.toString());
  }

  @Test
  void trustsTheAuthorityThatIsGivenAlone() {
    ask(to(server).caFile(own.cert()));
    assertLost(to(server).caFile(other.cert()).token("s3cret"));
    assertLost(to(server).tls(true));
    assertLost(to(server));
  }

  @Test
  void looksForTheServersName() {
    assertLost(Settings.builder(server.address()).caFile(own.cert()));
    ask(Settings.builder(server.address()).caFile(own.cert()).serverName("localhost"));
    assertLost(to(server).caFile(own.cert()).serverName("elsewhere"));
  }

  @Test
  void showsItsOwnCertificate() throws Exception {
    try (FakeServer strict = new FakeServer(0, encryption(ClientAuth.REQUIRE))) {
      ask(to(strict).caFile(own.cert()).certFile(caller.cert()).keyFile(caller.key()));
      assertLost(to(strict).caFile(own.cert()));
      assertLost(to(strict).caFile(own.cert()).certFile(other.cert()).keyFile(other.key()));
    }
  }

  @Test
  void sendsTheTokenWithEveryCall() throws Exception {
    try (FakeServer plain = new FakeServer();
        RewardClient client = RewardClient.connect(Settings.builder(plain.address()).token("s3cret").build())) {
      client.listModels();
      client.score(List.of(Chat.item(Chat.user("?"))));
      assertEquals(List.of("Bearer s3cret", "Bearer s3cret"), plain.tokens);
    }
  }
}
