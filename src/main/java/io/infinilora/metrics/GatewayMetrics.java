package io.infinilora.metrics;

/**
 * What a gateway reports about the bases that it sends generations to. Methods return at once and
 * never throw. Called on the gateway's event loop.
 */
public interface GatewayMetrics {
  /** Measures nothing. */
  GatewayMetrics NONE = new GatewayMetrics() {};

  /**
   * A generation was sent to a base, for the first time or again.
   *
   * @param base its name
   */
  default void routed(String base) {}

  /**
   * A generation that had begun was interrupted and goes on, with tokens it has already, at a base.
   *
   * @param base the name of that base
   */
  default void resumed(String base) {}
}
