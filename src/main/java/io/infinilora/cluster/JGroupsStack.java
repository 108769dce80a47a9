package io.infinilora.cluster;

import io.infinilora.config.ClusterConfig;
import io.infinilora.config.HostPort;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * The membership protocols: TCP between known places, or those that DNS names. A process that dies
 * is noticed when its sockets close and is out after {@value #VERIFY_MILLIS} ms; one that hangs or
 * cannot be reached is out after {@value #SILENCE_MILLIS} ms more.
 *
 * <p>Multicasts of others than members are dropped without a warning (JGRP000011). A member that
 * leaves, if it led the caches, says where they are without it, one message after the other, and
 * then that it leaves. Nothing keeps these messages in order, so the leave may overtake the last
 * ones. Nobody misses them: who leads next works all of that out anew.
 */
final class JGroupsStack {
  /** Where the socket listens whose end means the end of the process, from the member's port. */
  static final int SENTINEL_OFFSET = 100;

  private static final int VERIFY_MILLIS = 500;
  private static final int SILENCE_MILLIS = 8_000;
  private static final int HEARTBEAT_MILLIS = 2_000;

  /** How long the first process looks for others. */
  private static final int JOIN_MILLIS = 1_000;

  private JGroupsStack() {}

  static String xml(ClusterConfig config) {
    return """
        <config xmlns="urn:org:jgroups">
          <TCP bind_addr="%s" bind_port="%d" port_range="0" sock_conn_timeout="500" linger="-1"
               diag.enabled="false" thread_pool.min_threads="0" thread_pool.max_threads="32"/>
          %s
          <MERGE3 min_interval="1000" max_interval="4000"/>
          <FD_SOCK2 bind_addr="%s" offset="%d" port_range="0"/>
          <FD_ALL3 timeout="%d" interval="%d"/>
          <VERIFY_SUSPECT2 timeout="%d"/>
          <pbcast.NAKACK2 use_mcast_xmit="false" xmit_interval="200" resend_last_seqno="true"
                          log_discard_msgs="false"/>
          <UNICAST3 conn_close_timeout="5000" xmit_interval="200"/>
          <pbcast.STABLE desired_avg_gossip="5000" max_bytes="1M"/>
          <pbcast.GMS print_local_addr="false" join_timeout="%d"/>
          <UFC max_credits="4M" min_threshold="0.40"/>
          <MFC max_credits="4M" min_threshold="0.40"/>
          <FRAG4 frag_size="60000"/>
        </config>
        """
        .formatted(
            bare(config.host()),
            config.port(),
            discovery(config),
            bare(config.host()),
            SENTINEL_OFFSET,
            SILENCE_MILLIS,
            HEARTBEAT_MILLIS,
            VERIFY_MILLIS,
            JOIN_MILLIS);
  }

  private static String discovery(ClusterConfig config) {
    if (config.dns().isPresent()) {
      return "<dns.DNS_PING dns_query=\"%s\" return_entire_cache=\"true\"/>"
          .formatted(config.dns().get());
    }
    String hosts =
        Stream.concat(
                Stream.of(new HostPort(config.host(), config.port())), config.peers().stream())
            .distinct()
            .map(place -> "%s[%d]".formatted(bare(place.host()), place.port()))
            .collect(Collectors.joining(","));
    return "<TCPPING initial_hosts=\"%s\" port_range=\"0\" return_entire_cache=\"true\"/>"
        .formatted(hosts);
  }

  /** Without the brackets of an IPv6 address. */
  static String bare(String host) {
    return host.startsWith("[") ? host.substring(1, host.length() - 1) : host;
  }
}
