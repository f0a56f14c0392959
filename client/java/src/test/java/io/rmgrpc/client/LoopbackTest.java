package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;

class LoopbackTest {
  @Test
  void knowsThisMachine() {
    for (String address : List.of("localhost:1", "127.0.0.1:1", "127.9.8.255:1", "[::1]:1", "dns:///localhost:1", "unix:/run/x")) {
      assertTrue(Loopback.isLoopback(address), address);
    }
  }

  @Test
  void takesAllElseForAnother() {
    for (String address : List.of("localhost.example.org:1", "127.0.0.1.example.org:1", "128.0.0.1:1", "127.0.0.256:1", "127.1:1", "0.0.0.0:1",
        "[::]:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1", "localhost", "example.org:1", "localhost:1,example.org:1")) {
      assertFalse(Loopback.isLoopback(address), address);
    }
  }
}
