package io.infinilora.api;

import java.time.Duration;
import java.util.Objects;

/**
 * Settings of the HTTP server.
 *
 * @param host address to bind
 * @param port TCP port; 0 takes a free one
 * @param maxBodyBytes longest request body
 * @param bodyPatience how long a request body may stand still before its connection is closed, over
 *     HTTP/2 its stream
 */
public record HttpOptions(String host, int port, int maxBodyBytes, Duration bodyPatience) {
  /** Address bound by default: this machine only. */
  public static final String DEFAULT_HOST = "127.0.0.1";

  /** TCP port bound by default. */
  public static final int DEFAULT_PORT = 8080;

  /** Longest request body by default, in bytes (4 MiB). */
  public static final int DEFAULT_MAX_BODY_BYTES = 4 << 20;

  /** How long a request body may stand still by default. */
  public static final Duration DEFAULT_BODY_PATIENCE = Duration.ofSeconds(30);

  /** Rejects nulls and impossible numbers. */
  public HttpOptions {
    Objects.requireNonNull(host);
    if (port < 0 || port > 0xFFFF) {
      throw new IllegalArgumentException("port " + port);
    }
    if (!bodyPatience.isPositive()) {
      throw new IllegalArgumentException("bodyPatience " + bodyPatience);
    }
    if (maxBodyBytes < 1) {
      throw new IllegalArgumentException("maxBodyBytes " + maxBodyBytes);
    }
  }

  /** With the default patience. */
  public HttpOptions(String host, int port, int maxBodyBytes) {
    this(host, port, maxBodyBytes, DEFAULT_BODY_PATIENCE);
  }

  /** The defaults. */
  public static HttpOptions defaults() {
    return new HttpOptions(DEFAULT_HOST, DEFAULT_PORT, DEFAULT_MAX_BODY_BYTES);
  }

  /** The same on another address. */
  public HttpOptions at(String newHost, int newPort) {
    return new HttpOptions(newHost, newPort, maxBodyBytes, bodyPatience);
  }
}
