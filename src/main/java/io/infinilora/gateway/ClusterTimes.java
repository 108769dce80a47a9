package io.infinilora.gateway;

import java.time.Duration;

/**
 * How often both sides tell of themselves, and how long they wait for each other.
 *
 * @param notice time between the notices of a base
 * @param ping time between the pings of a gateway
 * @param baseSilence a base without notices or answers is lost after this
 * @param gatewaySilence streams of a gateway without pings are ended after this
 * @param join how long a new request waits for a base if there is none
 * @param resume how long an interrupted request is tried again without progress
 * @param pause time between two such tries, if every base has refused
 */
public record ClusterTimes(
    Duration notice,
    Duration ping,
    Duration baseSilence,
    Duration gatewaySilence,
    Duration join,
    Duration resume,
    Duration pause) {

  /**
   * Notices 4 times and pings once a second; bases are lost after 2 s, gateways after 4 s; a new
   * request waits 5 s for a base, an interrupted one is tried again for 30 s, every 250 ms.
   */
  public static final ClusterTimes DEFAULTS =
      new ClusterTimes(
          Duration.ofMillis(250),
          Duration.ofSeconds(1),
          Duration.ofSeconds(2),
          Duration.ofSeconds(4),
          Duration.ofSeconds(5),
          Duration.ofSeconds(30),
          Duration.ofMillis(250));

  /** Rejects times that cannot be. */
  public ClusterTimes {
    for (Duration time :
        new Duration[] {notice, ping, baseSilence, gatewaySilence, join, resume, pause}) {
      if (time.toMillis() < 1) {
        throw new IllegalArgumentException("times must be 1 ms or more, not " + time);
      }
    }
  }
}
