package io.rmgrpc.client;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.util.Base64;

/** A certificate that signs itself, and its key, as files. */
record Pem(Path cert, Path key) {
  private static final char[] PASSWORD = "changeit".toCharArray();

  /** Makes one for a name with the JDK's keytool. */
  static Pem make(Path folder, String name) throws IOException, InterruptedException, GeneralSecurityException {
    Path store = folder.resolve(name + ".p12");
    Process keytool = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "keytool").toString(), "-genkeypair",
        "-alias", "it", "-keyalg", "EC", "-dname", "CN=" + name, "-ext", "san=dns:" + name, "-storetype", "PKCS12",
        "-keystore", store.toString(), "-storepass", new String(PASSWORD))
        .redirectErrorStream(true)
        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
        .start();
    if (keytool.waitFor() != 0) {
      throw new IOException("keytool failed");
    }
    KeyStore keys = KeyStore.getInstance("PKCS12");
    try (InputStream in = Files.newInputStream(store)) {
      keys.load(in, PASSWORD);
    }
    Path cert = folder.resolve(name + ".crt");
    Path key = folder.resolve(name + ".key");
    Files.writeString(cert, armoured("CERTIFICATE", keys.getCertificate("it").getEncoded()));
    Files.writeString(key, armoured("PRIVATE KEY", keys.getKey("it", PASSWORD).getEncoded()));
    return new Pem(cert, key);
  }

  private static String armoured(String what, byte[] der) {
    String lines = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der);
    return "-----BEGIN " + what + "-----\n" + lines + "\n-----END " + what + "-----\n";
  }
}
