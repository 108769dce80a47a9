package io.infinilora.config;

import java.time.Duration;
import java.util.Objects;

/**
 * The HTTP server.
 *
 * @param host address to listen on
 * @param port port to listen on; 0 takes a free one
 * @param maxBody largest request body
 * @param warmUp how long the model may compute on its own before the server is ready; 0 for not at
 *     all
 * @param drainTimeout how long a shutdown waits for running requests
 */
public record ServerConfig(
    String host, int port, ByteSize maxBody, Duration warmUp, Duration drainTimeout) {

  /** Loopback only: the server has no authentication of its own. */
  public static final String DEFAULT_HOST = "127.0.0.1";

  /** 8080. */
  public static final int DEFAULT_PORT = 8080;

  /** 4 MiB. */
  public static final ByteSize DEFAULT_MAX_BODY = ByteSize.mebibytes(4);

  /** 5 s. */
  public static final Duration DEFAULT_WARM_UP = Duration.ofSeconds(5);

  /** 30 s. */
  public static final Duration DEFAULT_DRAIN_TIMEOUT = Duration.ofSeconds(30);

  /** All defaults. */
  public static final ServerConfig DEFAULTS =
      new ServerConfig(
          DEFAULT_HOST, DEFAULT_PORT, DEFAULT_MAX_BODY, DEFAULT_WARM_UP, DEFAULT_DRAIN_TIMEOUT);

  /** Rejects impossible values, naming the key. */
  public ServerConfig {
    Objects.requireNonNull(warmUp);
    Objects.requireNonNull(drainTimeout);
    if (host.isBlank()) {
      throw Check.error("server.host must not be empty");
    }
    Check.between("server.port", 0, 65535, port);
    Check.positive("server.maxBody", maxBody);
  }
}
