package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.security.KeyPairGenerator;
import java.security.PrivateKey;
import java.security.interfaces.ECPrivateKey;
import java.security.spec.InvalidKeySpecException;
import java.util.Arrays;
import java.util.Base64;
import org.junit.jupiter.api.Test;

class PrivateKeysTest {
  /** Made by "openssl ecparam -name prime256v1 -genkey", and the same after "openssl pkcs8 -topk8 -nocrypt". */
  private static final String EC_FIELDS =
      "MHcCAQEEIABJFqNhBC09bbbsZRVHOCmXBQ2bFe/qktoJeT70qaVCoAoGCCqGSM49AwEHoUQDQgAEkUL+5swGwVefuzXmDkuErt6v"
      + "BecMqnJeAGG/4rtv/ohkFZKQCakKqPuh0PoG4NPTzcUBOJhF9SOlpsHTCUbYdA==";

  private static final String EC_PKCS8 =
      "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAEkWo2EELT1ttuxlFUc4KZcFDZsV7+qS2gl5PvSppUKhRANCAASR"
      + "Qv7mzAbBV5+7NeYOS4Su3q8F5wyqcl4AYb/iu2/+iGQVkpAJqQqo+6HQ+gbg09PNxQE4mEX1I6WmwdMJRth0";

  private static String armoured(String type, String base64) {
    return "-----BEGIN " + type + "-----\n" + base64.replaceAll("(.{64})", "$1\n") + "\n-----END " + type + "-----\n";
  }

  private static String base64(byte[] bytes) {
    return Base64.getEncoder().encodeToString(bytes);
  }

  @Test
  void readsPkcs8OfEveryAlgorithm() throws Exception {
    for (String algorithm : new String[] {"RSA", "EC", "Ed25519"}) {
      PrivateKey key = KeyPairGenerator.getInstance(algorithm).generateKeyPair().getPrivate();
      assertEquals(key, PrivateKeys.parse(armoured("PRIVATE KEY", base64(key.getEncoded()))), algorithm);
    }
  }

  @Test
  void readsTheOlderFormOfRsa() throws Exception {
    PrivateKey key = KeyPairGenerator.getInstance("RSA").generateKeyPair().getPrivate();
    byte[] pkcs8 = key.getEncoded();
    byte[] inner = Arrays.copyOfRange(pkcs8, 26, pkcs8.length); // Behind the algorithm of a key of 2048 bits and more.
    assertEquals(key, PrivateKeys.parse(armoured("RSA PRIVATE KEY", base64(inner))));
  }

  @Test
  void readsTheOlderFormOfEcAndWhatOpensslPutsBeforeIt() throws Exception {
    String text = "Bag\n" + armoured("EC PARAMETERS", "BggqhkjOPQMBBw==") + armoured("EC PRIVATE KEY", EC_FIELDS);
    ECPrivateKey key = assertInstanceOf(ECPrivateKey.class, PrivateKeys.parse(text));
    ECPrivateKey same = assertInstanceOf(ECPrivateKey.class, PrivateKeys.parse(armoured("PRIVATE KEY", EC_PKCS8)));
    assertEquals(same.getS(), key.getS());
    assertEquals(same.getParams().toString(), key.getParams().toString());
  }

  @Test
  void refusesWhatHasNoKeyOrNeedsAPassword() {
    for (String text : new String[] {"", armoured("ENCRYPTED PRIVATE KEY", "AAAA"), armoured("EC PRIVATE KEY", "AAAA"),
        armoured("RSA PRIVATE KEY", "MAMCAQA="), armoured("PRIVATE KEY", "MIIB"), armoured("EC PRIVATE KEY", "MIT/////AA=="),
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----"}) {
      assertThrows(InvalidKeySpecException.class, () -> PrivateKeys.parse(text), text);
    }
  }
}
