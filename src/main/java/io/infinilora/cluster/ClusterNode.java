package io.infinilora.cluster;

import io.infinilora.config.ClusterConfig;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.VertxBuilder;
import io.vertx.core.VertxOptions;
import io.vertx.core.eventbus.EventBusOptions;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.util.UUID;
import org.infinispan.configuration.parsing.ConfigurationBuilderHolder;
import org.infinispan.configuration.parsing.ParserRegistry;
import org.infinispan.manager.DefaultCacheManager;
import org.infinispan.remoting.transport.jgroups.JGroupsTransport;

/** Makes this process a member of a cluster. */
public final class ClusterNode {
  private static final int MEMBER_DIGITS = 8;

  private ClusterNode() {}

  /** Options of a {@link Vertx} whose event bus the other members reach. */
  public static VertxOptions options(ClusterConfig config) {
    return new VertxOptions()
        .setEventBusOptions(new EventBusOptions().setHost(config.host()).setPort(config.busPort()));
  }

  /**
   * Joins the cluster, or begins it if nobody answers. Blocks while it looks for members.
   *
   * @param builder with the {@link #options}
   * @param node name of this process, for logs; one that starts again may have it again
   * @return the clustered Vertx; closing it leaves the cluster
   * @throws InfiniLoraException BAD_CONFIG if the address or a port cannot be used
   */
  public static Future<Vertx> join(VertxBuilder builder, ClusterConfig config, String node) {
    requireFree("cluster.port", config.host(), config.port());
    requireFree("cluster.port + 100", config.host(), config.port() + JGroupsStack.SENTINEL_OFFSET);
    // Vert.x takes the member's name for its identity: were it that of a process that has just
    // died,
    // the consumers of the new one would be cleared away with those of the old.
    String member = node + "-" + UUID.randomUUID().toString().substring(0, MEMBER_DIGITS);
    PeerSearch peers = new PeerSearch(config);
    peers.await();
    DefaultCacheManager caches = open(config, member);
    // Whoever starts at the same moment as its peers may begin a cluster beside theirs.
    while (caches.getMembers().size() == 1 && peers.goesOn()) {
      caches.stop();
      peers.pause();
      caches = open(config, member);
    }
    return builder.withClusterManager(new Membership(caches)).buildClustered();
  }

  private static DefaultCacheManager open(ClusterConfig config, String node) {
    try {
      return new DefaultCacheManager(caches(config, node), true);
    } catch (RuntimeException e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "cluster: %s:%d cannot join: %s"
              .formatted(config.host(), config.port(), rootCause(e).getMessage()),
          e);
    }
  }

  /** Looks by itself, since the cluster's own errors do not name the port. */
  private static void requireFree(String key, String host, int port) {
    try (ServerSocket socket = new ServerSocket()) {
      socket.setReuseAddress(true);
      socket.bind(new InetSocketAddress(JGroupsStack.bare(host), port));
    } catch (IOException e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "%s: cannot listen on %s:%d: %s".formatted(key, host, port, e.getMessage()),
          e);
    }
  }

  /** Caches as Vert.x expects them, on our protocol stack. */
  private static ConfigurationBuilderHolder caches(ClusterConfig config, String node) {
    ConfigurationBuilderHolder holder;
    try {
      holder =
          new ParserRegistry(ClusterNode.class.getClassLoader())
              .parse(ClusterNode.class.getResource("infinispan.xml"));
    } catch (IOException e) {
      throw new UncheckedIOException("infinispan.xml in the jar cannot be read", e);
    }
    holder
        .getGlobalConfigurationBuilder()
        .transport()
        .transport(new JGroupsTransport())
        .clusterName(config.name())
        .nodeName(node)
        .addProperty(JGroupsTransport.CONFIGURATION_XML, JGroupsStack.xml(config));
    return holder;
  }

  private static Throwable rootCause(Throwable e) {
    Throwable cause = e;
    while (cause.getCause() != null) {
      cause = cause.getCause();
    }
    return cause;
  }
}
