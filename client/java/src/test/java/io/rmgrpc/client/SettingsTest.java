package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SettingsTest {
  private static Settings.Builder remote() {
    return Settings.builder("rewards.example.org:50051");
  }

  private static void assertRefused(String field, Settings.Builder settings) {
    RewardException error = assertThrows(RewardException.class, () -> RewardClient.connect(settings.build()).close());
    assertEquals(field, error.field());
    assertEquals(Reason.INVALID_REQUEST, error.reason());
    assertFalse(error.toString().contains("s3cret"), error.toString());
  }

  @Test
  void letsNoTokenLeaveTheMachineInTheClear() {
    assertRefused("token", remote().token("s3cret"));
    assertTrue(remote().token("s3cret").tls(true).build().tls());
    assertFalse(remote().token("s3cret").insecure(true).build().tls());
    assertFalse(Settings.builder("localhost:1").token("s3cret").build().tls());
  }

  @Test
  void showsNoToken() {
    String shown = Settings.builder("localhost:1").token("s3cret").build().toString();
    assertFalse(shown.contains("s3cret"), shown);
  }

  @Test
  void refusesATokenThatIsNoHeader() {
    assertRefused("token", remote().tls(true).token("s3cret\r\nx: y"));
    assertRefused("token", remote().tls(true).token("s3cret s3cret"));
  }

  @Test
  void encryptsWhereAnyOfItsSettingsIsGiven() {
    assertFalse(remote().build().tls());
    assertTrue(remote().caFile(Path.of("ca.pem")).build().tls());
    assertTrue(remote().serverName("rewards").build().tls());
    assertTrue(remote().certFile(Path.of("c.pem")).keyFile(Path.of("k.pem")).build().tls());
  }

  @Test
  void refusesHalfAPair() {
    assertRefused("key_file", remote().certFile(Path.of("c.pem")));
    assertRefused("cert_file", remote().keyFile(Path.of("k.pem")));
  }

  @Test
  void refusesFilesThatCannotBeRead(@TempDir Path folder) throws Exception {
    Path garbage = Files.writeString(folder.resolve("garbage.pem"), "nothing");
    assertRefused("ca_file", remote().caFile(folder.resolve("absent.pem")));
    assertRefused("ca_file", remote().caFile(garbage));
    assertRefused("cert_file", remote().certFile(folder.resolve("absent.pem")).keyFile(garbage));
    assertRefused("cert_file", remote().certFile(garbage).keyFile(garbage));
    assertRefused("key_file", remote().certFile(Pem.make(folder, "it").cert()).keyFile(garbage));
  }

  @Test
  void refusesValuesThatCannotBe() {
    assertRefused("timeout", remote().timeout(Duration.ofSeconds(-1)));
    assertRefused("reconnect", remote().reconnect(Duration.ofSeconds(-1)));
    assertRefused("attempts", remote().attempts(0));
    assertRefused("address", Settings.builder(" "));
    assertRefused("address", Settings.builder("two words:1"));
    assertRefused("address", Settings.builder("unix:relative:path"));
  }
}
