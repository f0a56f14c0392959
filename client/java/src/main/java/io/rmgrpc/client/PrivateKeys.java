package io.rmgrpc.client;

import java.io.ByteArrayOutputStream;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.spec.InvalidKeySpecException;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.HexFormat;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Private keys in PEM: those of PKCS #8, and the older forms of RSA and EC, which the JDK does not read. */
final class PrivateKeys {
  private static final Pattern BLOCK =
      Pattern.compile("-----BEGIN ((?:[A-Z]+ )?PRIVATE KEY)-----([A-Za-z0-9+/=\\s]+)-----END \\1-----");
  private static final byte[] VERSION_0 = HexFormat.of().parseHex("020100");
  private static final byte[] VERSION_1 = HexFormat.of().parseHex("020101");
  private static final byte[] RSA = HexFormat.of().parseHex("06092a864886f70d0101010500");
  private static final byte[] EC = HexFormat.of().parseHex("06072a8648ce3d0201");
  private static final int SEQUENCE = 0x30;
  private static final int OCTETS = 0x04;
  private static final int PARAMETERS = 0xa0;

  private PrivateKeys() {}

  /**
   * @throws GeneralSecurityException the text holds no key that can be read without a password
   */
  static PrivateKey parse(String pem) throws GeneralSecurityException {
    Matcher block = BLOCK.matcher(pem);
    if (!block.find()) {
      throw new InvalidKeySpecException("there is no private key in PEM without a password");
    }
    byte[] der = Base64.getMimeDecoder().decode(block.group(2));
    byte[] pkcs8 = switch (block.group(1)) {
      case "PRIVATE KEY" -> der;
      case "RSA PRIVATE KEY" -> wrapped(RSA, der);
      case "EC PRIVATE KEY" -> wrappedEc(der);
      default -> throw new InvalidKeySpecException("a " + block.group(1) + " cannot be read");
    };
    for (String algorithm : new String[] {"RSA", "EC", "EdDSA"}) {
      try {
        return KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(pkcs8));
      } catch (InvalidKeySpecException error) {
        continue; // The key is of another algorithm.
      }
    }
    throw new InvalidKeySpecException("the key is neither RSA, EC nor EdDSA");
  }

  /** A key as PKCS #8 has it, with its algorithm before it. */
  private static byte[] wrapped(byte[] algorithm, byte[] key) {
    return element(SEQUENCE, joined(VERSION_0, element(SEQUENCE, algorithm), element(OCTETS, key)));
  }

  /** An EC key names its curve inside, where the JDK does not expect it: it goes to the algorithm. */
  private static byte[] wrappedEc(byte[] key) throws InvalidKeySpecException {
    byte[] number = null;
    byte[] curve = null;
    try {
      ByteBuffer fields = ByteBuffer.wrap(key);
      fields.get();
      length(fields);
      while (fields.hasRemaining()) {
        int tag = fields.get() & 0xff;
        byte[] content = new byte[length(fields)];
        fields.get(content);
        number = tag == OCTETS ? content : number;
        curve = tag == PARAMETERS ? content : curve;
      }
    } catch (BufferUnderflowException | NegativeArraySizeException error) {
      throw new InvalidKeySpecException("the EC key is cut or garbled", error);
    }
    if (number == null || curve == null) {
      throw new InvalidKeySpecException("the EC key does not name its curve");
    }
    return wrapped(joined(EC, curve), element(SEQUENCE, joined(VERSION_1, element(OCTETS, number))));
  }

  private static int length(ByteBuffer in) {
    int first = in.get() & 0xff;
    if (first < 0x80) {
      return first;
    }
    int length = 0;
    for (int at = 0; at < (first & 0x7f); at++) {
      length = length << 8 | in.get() & 0xff;
    }
    return length <= in.remaining() ? length : -1;
  }

  private static byte[] element(int tag, byte[] content) {
    byte[] length = content.length < 0x80
        ? new byte[] {(byte) content.length}
        : new byte[] {(byte) 0x82, (byte) (content.length >> 8), (byte) content.length};
    return joined(new byte[] {(byte) tag}, length, content);
  }

  private static byte[] joined(byte[]... parts) {
    ByteArrayOutputStream all = new ByteArrayOutputStream();
    for (byte[] part : parts) {
      all.writeBytes(part);
    }
    return all.toByteArray();
  }
}
