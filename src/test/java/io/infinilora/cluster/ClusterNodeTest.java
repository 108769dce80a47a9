package io.infinilora.cluster;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import io.infinilora.config.ClusterConfig;
import io.infinilora.config.HostPort;
import io.infinilora.core.AdapterId;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.wire.LeaseGrant;
import io.infinilora.wire.LeaseRequest;
import io.infinilora.wire.WireCodecs;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.DeliveryOptions;
import io.vertx.core.eventbus.Message;
import io.vertx.core.internal.VertxInternal;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.slf4j.LoggerFactory;

@Timeout(60)
class ClusterNodeTest {
  private static final String ADDRESS = "test.leases";

  private final List<Vertx> members = new ArrayList<>();

  @AfterEach
  void leave() {
    members.forEach(vertx -> await(vertx.close()));
  }

  @Test
  void membersFindEachOtherAndTalk() throws Exception {
    int first = freePort();
    Vertx server = join("a", first, List.of());
    Vertx client = join("b", freePort(), List.of(new HostPort("127.0.0.1", first)));
    LeaseGrant grant = new LeaseGrant(UUID.randomUUID(), 5, 2);
    CompletableFuture<LeaseRequest> heard = new CompletableFuture<>();
    await(
        server
            .eventBus()
            .<LeaseRequest>consumer(
                ADDRESS,
                message -> {
                  heard.complete(message.body());
                  message.reply(grant);
                })
            .completion());
    LeaseRequest request =
        new LeaseRequest("base-0", "base-0/1", new AdapterId("pirate", "ab12"), 17);

    Message<LeaseGrant> answer = await(client.eventBus().request(ADDRESS, request));

    assertThat(answer.body()).isEqualTo(grant);
    assertThat(heard.get(10, TimeUnit.SECONDS)).isEqualTo(request);
  }

  /** Or what the cluster clears away of one would be the other's. */
  @Test
  void twoProcessesOfOneNameAreTwoMembers() throws Exception {
    int first = freePort();
    Vertx old = join("a", first, List.of());
    Vertx fresh = join("a", freePort(), List.of(new HostPort("127.0.0.1", first)));

    assertThat(identity(fresh)).startsWith("a-").isNotEqualTo(identity(old));
  }

  private static String identity(Vertx member) {
    return ((VertxInternal) member).clusterManager().getNodeId();
  }

  @Test
  void aMapOutlivesTheMemberThatWroteIt() throws Exception {
    int first = freePort();
    Vertx writer = join("a", first, List.of());
    Vertx reader = join("b", freePort(), List.of(new HostPort("127.0.0.1", first)));
    await(writer.sharedData().getAsyncMap("adapters").compose(map -> map.put("pirate", "here")));

    await(writer.close());
    members.remove(writer);

    Object kept = await(reader.sharedData().getAsyncMap("adapters").compose(m -> m.get("pirate")));
    assertThat(kept).isEqualTo("here");
  }

  @Test
  void membersThatLeaveOneAfterTheOtherAreNotComplainedOf() throws Exception {
    ListAppender<ILoggingEvent> complaints = new ListAppender<>();
    complaints.start();
    List<Logger> loggers =
        Stream.of("org.infinispan.CLUSTER", "org.jgroups.protocols.pbcast.NAKACK2")
            .map(name -> (Logger) LoggerFactory.getLogger(name))
            .toList();
    loggers.forEach(logger -> logger.addAppender(complaints));
    try {
      int first = freePort();
      join("a", first, List.of());
      join("b", freePort(), List.of(new HostPort("127.0.0.1", first)));
      join("c", freePort(), List.of(new HostPort("127.0.0.1", first)));

      for (Vertx member : List.copyOf(members)) {
        await(member.close());
      }
      members.clear();
    } finally {
      loggers.forEach(logger -> logger.detachAppender(complaints));
    }

    assertThat(complaints.list).isEmpty();
  }

  @Test
  void clustersOfOtherNamesAreNotJoined() throws Exception {
    int first = freePort();
    Vertx one = join("a", first, List.of());
    await(one.eventBus().consumer(ADDRESS, m -> m.reply("here")).completion());
    Vertx other = join("other", "b", freePort(), List.of(new HostPort("127.0.0.1", first)));

    assertThatThrownBy(
            () ->
                await(
                    other
                        .eventBus()
                        .request(ADDRESS, "?", new DeliveryOptions().setSendTimeout(5_000))))
        .hasMessageContaining("No handlers");
  }

  @Test
  void aPortInUseIsNamed() throws Exception {
    try (ServerSocket taken = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      assertThatThrownBy(() -> join("a", taken.getLocalPort(), List.of()))
          .isInstanceOf(InfiniLoraException.class)
          .hasMessageContaining("cluster.port")
          .hasMessageContaining("127.0.0.1:" + taken.getLocalPort());
    }
  }

  private Vertx join(String node, int port, List<HostPort> peers) {
    return join("test", node, port, peers);
  }

  private Vertx join(String cluster, String node, int port, List<HostPort> peers) {
    ClusterConfig config =
        new ClusterConfig(
            cluster,
            Optional.empty(),
            "127.0.0.1",
            port,
            0,
            0,
            peers,
            Optional.empty(),
            Optional.empty());
    Vertx vertx =
        await(ClusterNode.join(Vertx.builder().with(ClusterNode.options(config)), config, node));
    members.add(vertx);
    WireCodecs.registerAll(vertx.eventBus());
    return vertx;
  }

  private static int freePort() throws IOException {
    try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      return socket.getLocalPort();
    }
  }

  private static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().orTimeout(30, TimeUnit.SECONDS).join();
  }
}
