package io.infinilora.lora;

import io.infinilora.wire.FrameAddress;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.net.NetServer;
import io.vertx.core.net.NetServerOptions;
import io.vertx.core.net.NetSocket;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Takes the frames of base models in other processes for all shards of this one. Closed with its
 * {@link Vertx} at the latest.
 */
public final class FrameServer {
  private final Vertx vertx;
  private final FrameEndpoint endpoint;
  private final NetServer server;
  private final Map<UUID, RemoteBases> shards = new ConcurrentHashMap<>();

  private FrameServer(Vertx vertx, FrameEndpoint endpoint) {
    this.vertx = vertx;
    this.endpoint = endpoint;
    server =
        vertx
            .createNetServer(
                new NetServerOptions()
                    .setHost(endpoint.bindHost())
                    .setPort(endpoint.port())
                    .setTcpNoDelay(true)
                    .setTcpKeepAlive(true))
            .connectHandler(this::connected);
  }

  /** Listens; fails if the address cannot be had. */
  public static Future<FrameServer> listen(Vertx vertx, FrameEndpoint endpoint) {
    FrameServer server = new FrameServer(vertx, endpoint);
    return server.server.listen().map(server);
  }

  /** Where base models reach it. */
  public FrameAddress address() {
    return new FrameAddress(endpoint.advertisedHost(), server.actualPort());
  }

  private void connected(NetSocket socket) {
    new BaseSession(vertx, socket, shards::get).begin();
  }

  /** Takes connections for a shard from now on. */
  void serve(RemoteBases bases) {
    shards.put(bases.incarnation(), bases);
  }

  /** Ends all connections with a shard and takes no more for it. */
  void end(RemoteBases bases) {
    shards.remove(bases.incarnation());
    bases.close();
  }

  /** Ends all connections and takes no more. */
  public Future<Void> close() {
    shards.values().forEach(this::end);
    return server.close();
  }
}
