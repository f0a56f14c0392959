package io.rmgrpc.client;

import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NegotiationType;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.MetadataUtils;
import io.netty.handler.ssl.SslContext;
import io.netty.handler.ssl.SslContextBuilder;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.cert.Certificate;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.Collection;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLException;

/** The connection: encryption, the token, and the options that long streams need. */
final class Channels {
  private static final Metadata.Key<String> AUTHORIZATION = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private Channels() {}

  /**
   * A channel of its own for these settings.
   *
   * @throws RewardException the address cannot be, or a file cannot be read or holds something else than it should
   */
  static ManagedChannel open(Settings settings) {
    NettyChannelBuilder builder = target(settings.address())
        .maxInboundMessageSize(Session.MAX_MESSAGE_BYTES)
        .keepAliveTime(30, TimeUnit.SECONDS) // A server that died without a word is noticed.
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .disableRetry(); // The session sends again what is to be sent again.
    if (settings.tls()) {
      builder.negotiationType(NegotiationType.TLS).sslContext(encryption(settings));
    } else {
      builder.usePlaintext();
    }
    if (!settings.serverName().isEmpty()) {
      builder.overrideAuthority(settings.serverName());
    }
    if (!settings.token().isEmpty()) {
      Metadata headers = new Metadata();
      headers.put(AUTHORIZATION, "Bearer " + settings.token());
      builder.intercept(MetadataUtils.newAttachHeadersInterceptor(headers));
    }
    try {
      return builder.build();
    } catch (IllegalArgumentException error) {
      throw noAddress(settings.address(), error);
    }
  }

  private static NettyChannelBuilder target(String address) {
    try {
      return NettyChannelBuilder.forTarget(address);
    } catch (IllegalArgumentException error) {
      throw noAddress(address, error);
    }
  }

  private static RewardException noAddress(String address, IllegalArgumentException cause) {
    return RewardException.invalid("address", "must be host:port, and is '" + address + "'").causedBy(cause);
  }

  private static SslContext encryption(Settings settings) {
    SslContextBuilder builder;
    try {
      builder = GrpcSslContexts.forClient();
    } catch (IllegalArgumentException | UnsupportedOperationException error) {
      throw withoutTls(error);
    }
    settings.caFile().ifPresent(path -> trust(builder, path));
    settings.certFile().ifPresent(path -> identify(builder, path, settings.keyFile().orElseThrow()));
    try {
      return builder.build();
    } catch (SSLException | UnsupportedOperationException error) {
      throw withoutTls(error);
    }
  }

  /** Some builds of Netty have no ALPN of their own. */
  private static RewardException withoutTls(Exception cause) {
    String description = "cannot be set up: " + cause.getMessage() + "; netty-tcnative on the class path brings what is needed";
    return RewardException.invalid("tls", description).causedBy(cause);
  }

  private static void trust(SslContextBuilder builder, Path caFile) {
    builder.trustManager(certificates(caFile, "ca_file"));
  }

  private static void identify(SslContextBuilder builder, Path certFile, Path keyFile) {
    X509Certificate[] chain = certificates(certFile, "cert_file");
    String pem = new String(read(keyFile, "key_file"), StandardCharsets.ISO_8859_1);
    try {
      builder.keyManager(PrivateKeys.parse(pem), chain);
    } catch (GeneralSecurityException | IllegalArgumentException error) {
      throw RewardException.invalid("key_file", keyFile + " holds no key that can be used: " + error.getMessage()).causedBy(error);
    }
  }

  private static X509Certificate[] certificates(Path path, String field) {
    try {
      InputStream pem = new ByteArrayInputStream(read(path, field));
      Collection<? extends Certificate> found = CertificateFactory.getInstance("X.509").generateCertificates(pem);
      if (!found.isEmpty()) {
        return found.toArray(X509Certificate[]::new);
      }
    } catch (CertificateException error) {
      throw RewardException.invalid(field, path + " holds no certificates in PEM: " + error.getMessage()).causedBy(error);
    }
    throw RewardException.invalid(field, path + " holds no certificates in PEM");
  }

  private static byte[] read(Path path, String field) {
    try {
      return Files.readAllBytes(path);
    } catch (IOException error) {
      throw RewardException.invalid(field, path + " cannot be read: " + error).causedBy(error);
    }
  }
}
