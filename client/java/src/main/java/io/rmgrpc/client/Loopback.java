package io.rmgrpc.client;

import java.util.regex.Pattern;

/** What an address says of who can reach it, without asking a resolver. */
final class Loopback {
  private static final Pattern SCHEME = Pattern.compile("^(dns:///|dns:|ipv4:|ipv6:)");
  private static final String OCTET = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
  private static final Pattern HOST =
      Pattern.compile("localhost|127(\\." + OCTET + "){3}|\\[?::1]?|\\[?(0{1,4}:){7}0{0,3}1]?");

  private Loopback() {}

  /** Whether host:port is on this machine and nowhere else. */
  static boolean isLoopback(String address) {
    if (address.startsWith("unix:")) {
      return true;
    }
    String target = SCHEME.matcher(address).replaceFirst("");
    int colon = target.lastIndexOf(':');
    return colon >= 0 && HOST.matcher(target.substring(0, colon)).matches();
  }
}
