package io.infinilora.config;

import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * How a process joins others; of no meaning for role {@code all}.
 *
 * @param name name of the cluster; processes of other clusters are not joined
 * @param node name of this process among the others; empty for one that follows from role and
 *     address
 * @param host address at which the others reach this process
 * @param port port of the membership protocol
 * @param busPort port of the event bus; 0 takes a free one
 * @param framePort port at which a LoRA server takes activations; 0 takes a free one
 * @param peers processes that are asked for the cluster
 * @param dns name whose addresses are those of all processes; asked instead of {@code peers}
 * @param shards indices of the shards of {@code lora.shards} that a process of role {@code lora}
 *     runs; empty for all
 */
public record ClusterConfig(
    String name,
    Optional<String> node,
    String host,
    int port,
    int busPort,
    int framePort,
    List<HostPort> peers,
    Optional<String> dns,
    Optional<List<Integer>> shards) {

  /** infinilora. */
  public static final String DEFAULT_NAME = "infinilora";

  /** Loopback only: members of a cluster trust each other and whoever reaches their ports. */
  public static final String DEFAULT_HOST = "127.0.0.1";

  /** 7800. */
  public static final int DEFAULT_PORT = 7800;

  /** All defaults. */
  public static final ClusterConfig DEFAULTS =
      new ClusterConfig(
          DEFAULT_NAME,
          Optional.empty(),
          DEFAULT_HOST,
          DEFAULT_PORT,
          0,
          0,
          List.of(),
          Optional.empty(),
          Optional.empty());

  /** Rejects impossible values, naming the key. */
  public ClusterConfig {
    Objects.requireNonNull(node);
    plain("cluster.name", name);
    node.ifPresent(n -> plain("cluster.node", n));
    host("cluster.host", host);
    dns.ifPresent(d -> host("cluster.dns", d));
    Check.between("cluster.port", 1, 65535, port);
    Check.between("cluster.busPort", 0, 65535, busPort);
    Check.between("cluster.framePort", 0, 65535, framePort);
    peers = List.copyOf(peers);
    shards = shards.map(List::copyOf);
    if (shards.isPresent() && shards.get().isEmpty()) {
      throw Check.error("cluster.shards must name a shard, or be null for all");
    }
    if (dns.isPresent() && !peers.isEmpty()) {
      throw Check.error("cluster.dns and cluster.peers cannot both be set");
    }
  }

  private static void plain(String key, String value) {
    if (!value.matches("[A-Za-z0-9._-]+")) {
      throw Check.error(
          "%s must consist of letters, digits, dots, underscores and hyphens, not \"%s\""
              .formatted(key, value));
    }
  }

  private static void host(String key, String value) {
    if (!HostPort.isHost(value)) {
      throw Check.error("%s must be a host name or address, not \"%s\"".formatted(key, value));
    }
  }
}
