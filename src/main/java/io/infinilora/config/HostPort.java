package io.infinilora.config;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A place in the network.
 *
 * @param host name or address
 * @param port TCP port
 */
public record HostPort(String host, int port) {
  private static final Pattern HOST = Pattern.compile("[A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+]");
  private static final Pattern TEXT = Pattern.compile("(" + HOST + "):(\\d{1,5})");

  /** Rejects what is no host, and ports outside 1 to 65535. */
  public HostPort {
    if (!isHost(host) || port < 1 || port > 65535) {
      throw new IllegalArgumentException(host + ":" + port);
    }
  }

  /** Whether a text is a name or an address; IPv6 stands in brackets. */
  static boolean isHost(String text) {
    return HOST.matcher(text).matches();
  }

  /**
   * A place as it is written, {@code host:port}.
   *
   * @throws IllegalArgumentException if it is not written so
   */
  public static HostPort parse(String text) {
    Matcher matcher = TEXT.matcher(text);
    if (!matcher.matches()) {
      throw new IllegalArgumentException(text);
    }
    return new HostPort(matcher.group(1), Integer.parseInt(matcher.group(2)));
  }

  @Override
  public String toString() {
    return host + ":" + port;
  }
}
