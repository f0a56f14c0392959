package io.rmgrpc.client;

import io.rmgrpc.v1.ScoreOptions;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Objects;
import java.util.Optional;

/** What a client is made of. Immutable. */
public final class Settings {
  private final String address;
  private final String model;
  private final ScoreOptions options;
  private final Ordering ordering;
  private final Duration timeout;
  private final Duration reconnect;
  private final int attempts;
  private final boolean tls;
  private final Path caFile;
  private final Path certFile;
  private final Path keyFile;
  private final String serverName;
  private final String token;
  private final boolean insecure;

  private Settings(Builder builder) {
    address = builder.address;
    model = builder.model;
    options = builder.options;
    ordering = builder.ordering;
    timeout = builder.timeout;
    reconnect = builder.reconnect;
    attempts = builder.attempts;
    tls = builder.tls;
    caFile = builder.caFile;
    certFile = builder.certFile;
    keyFile = builder.keyFile;
    serverName = builder.serverName;
    token = builder.token;
    insecure = builder.insecure;
  }

  /** The defaults, for a server at host:port. */
  public static Settings of(String address) {
    return builder(address).build();
  }

  /** A builder that begins with the defaults, for a server at host:port. */
  public static Builder builder(String address) {
    return new Builder(address);
  }

  /** host:port of the server. */
  public String address() {
    return address;
  }

  /** The model to ask; may be empty where the server serves only one. */
  public String model() {
    return model;
  }

  /** How every item is scored. */
  public ScoreOptions options() {
    return options;
  }

  /** The order of a stream's results. */
  public Ordering ordering() {
    return ordering;
  }

  /** How long an item's answer is worth waiting for; an item's own timeout wins. */
  public Duration timeout() {
    return timeout;
  }

  /** How long a lost server, or one that cannot score, is tried. */
  public Duration reconnect() {
    return reconnect;
  }

  /** How often an item is tried that the server has no room for, or is lost with. */
  public int attempts() {
    return attempts;
  }

  /** Whether the connection is encrypted: asked for, or needed by another setting. */
  public boolean tls() {
    return tls || caFile != null || certFile != null || keyFile != null || !serverName.isEmpty();
  }

  /** PEM of the authorities that the server's certificate may come from; the system's where empty. */
  public Optional<Path> caFile() {
    return Optional.ofNullable(caFile);
  }

  /** PEM of the client's own certificate. */
  public Optional<Path> certFile() {
    return Optional.ofNullable(certFile);
  }

  /** PEM of the key of the client's own certificate. */
  public Optional<Path> keyFile() {
    return Optional.ofNullable(keyFile);
  }

  /** The name that the server's certificate must have; the address's host where empty. */
  public String serverName() {
    return serverName;
  }

  String token() {
    return token;
  }

  /** Whether a token may leave this machine without TLS. */
  public boolean insecure() {
    return insecure;
  }

  /** All but the token. */
  @Override
  public String toString() {
    return "Settings[address=" + address + ", model=" + model + ", ordering=" + ordering + ", timeout=" + timeout + ", reconnect="
        + reconnect + ", attempts=" + attempts + ", tls=" + tls() + ", token=" + (token.isEmpty() ? "none" : "given") + "]";
  }

  /** Builds {@link Settings}. */
  public static final class Builder {
    private final String address;
    private String model = "";
    private ScoreOptions options = ScoreOptions.getDefaultInstance();
    private Ordering ordering = Ordering.COMPLETION;
    private Duration timeout = Duration.ofSeconds(600);
    private Duration reconnect = Duration.ofSeconds(60);
    private int attempts = 20;
    private boolean tls;
    private Path caFile;
    private Path certFile;
    private Path keyFile;
    private String serverName = "";
    private String token = "";
    private boolean insecure;

    private Builder(String address) {
      this.address = Objects.requireNonNull(address, "address");
    }

    /** The model to ask; may be left out where the server serves only one. */
    public Builder model(String name) {
      model = Objects.requireNonNull(name, "model");
      return this;
    }

    /** How every item is scored; what is left out is the server's default. */
    public Builder options(ScoreOptions scoreOptions) {
      options = Objects.requireNonNull(scoreOptions, "options");
      return this;
    }

    /** The order of a stream's results; completion where left out. */
    public Builder ordering(Ordering order) {
      ordering = Objects.requireNonNull(order, "ordering");
      return this;
    }

    /** How long an item's answer is worth waiting for, where the item does not say; 600 s where left out. */
    public Builder timeout(Duration duration) {
      timeout = Objects.requireNonNull(duration, "timeout");
      return this;
    }

    /** How long a lost server, or one that cannot score, is tried; 60 s where left out. */
    public Builder reconnect(Duration duration) {
      reconnect = Objects.requireNonNull(duration, "reconnect");
      return this;
    }

    /** How often an item is tried that the server has no room for, or is lost with; 20 where left out. */
    public Builder attempts(int count) {
      attempts = count;
      return this;
    }

    /** Encrypts, with the system's authorities where {@link #caFile} is left out. */
    public Builder tls(boolean on) {
      tls = on;
      return this;
    }

    /** PEM of the authorities that the server's certificate may come from. */
    public Builder caFile(Path pem) {
      caFile = pem;
      return this;
    }

    /** PEM of the client's own certificate, for a server that asks for one; goes with {@link #keyFile}. */
    public Builder certFile(Path pem) {
      certFile = pem;
      return this;
    }

    /** PEM of the key of {@link #certFile}, without a password. */
    public Builder keyFile(Path pem) {
      keyFile = pem;
      return this;
    }

    /** The name that the server's certificate must have, where it is not the address's host. */
    public Builder serverName(String name) {
      serverName = Objects.requireNonNull(name, "serverName");
      return this;
    }

    /** The bearer token that is sent with every call. */
    public Builder token(String bearer) {
      token = Objects.requireNonNull(bearer, "token");
      return this;
    }

    /** Lets the token leave this machine without TLS. */
    public Builder insecure(boolean allowed) {
      insecure = allowed;
      return this;
    }

    /**
     * The settings.
     *
     * @throws RewardException one of them cannot be, or two do not go together
     */
    public Settings build() {
      check(!address.isBlank(), "address", "is empty; give host:port");
      check(Durations.isValidTimeout(timeout), "timeout", "must not be negative, and is " + timeout);
      check(Durations.isValidTimeout(reconnect), "reconnect", "must not be negative, and is " + reconnect);
      check(attempts > 0, "attempts", "must be at least 1, and is " + attempts);
      check(keyFile != null || certFile == null, "key_file", "goes with cert_file, which is given");
      check(certFile != null || keyFile == null, "cert_file", "goes with key_file, which is given");
      check(token.chars().allMatch(letter -> letter > ' ' && letter < 0x7f), "token", "must be one word of printable ASCII");
      Settings settings = new Settings(this);
      boolean isExposed = !token.isEmpty() && !settings.tls() && !insecure && !Loopback.isLoopback(address);
      check(!isExposed, "token", "would go to " + address + " without encryption; use tls, or allow it with insecure");
      return settings;
    }

    private static void check(boolean isRight, String field, String problem) {
      if (!isRight) {
        throw RewardException.invalid(field, problem);
      }
    }
  }
}
