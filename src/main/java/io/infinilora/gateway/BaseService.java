package io.infinilora.gateway;

import io.infinilora.core.Engine;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.wire.BaseAddresses;
import io.infinilora.wire.BaseCall;
import io.infinilora.wire.BaseNotice;
import io.infinilora.wire.BaseNotice.State;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.VerticleBase;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.UUID;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Lets gateways use an engine of this process. Deployed when the engine takes requests, undeployed
 * before it is closed; {@link #drain} first lets streams end. A second deployment needs a new
 * object, which is another incarnation.
 */
public final class BaseService extends VerticleBase {
  private static final Logger log = LoggerFactory.getLogger(BaseService.class);

  private final String base;
  private final Engine engine;
  private final int maxRunning;
  private final String model;
  private final String fingerprint;
  private final ClusterTimes times;
  private final UUID incarnation = UUID.randomUUID();

  // Owned by the event loop.
  private final Map<UUID, GatewayPeer> peers = new HashMap<>();
  private Clockwork clock;
  private State state = State.SERVING;
  private final Promise<Void> drained = Promise.promise();

  /**
   * A service that begins when deployed.
   *
   * @param base name of the instance, unique among those that run
   * @param maxRunning most sequences that the engine runs at the same time
   * @param model what is served, for people
   * @param fingerprint equal at every base, and the gateways, that serve the same model
   */
  public BaseService(
      String base,
      Engine engine,
      int maxRunning,
      String model,
      String fingerprint,
      ClusterTimes times) {
    this.base = Objects.requireNonNull(base);
    this.engine = Objects.requireNonNull(engine);
    this.maxRunning = maxRunning;
    this.model = Objects.requireNonNull(model);
    this.fingerprint = Objects.requireNonNull(fingerprint);
    this.times = Objects.requireNonNull(times);
  }

  /** Differs from that of every other object. */
  public UUID incarnation() {
    return incarnation;
  }

  @Override
  public Future<?> start() {
    return vertx
        .eventBus()
        .<BaseCall>consumer(BaseAddresses.calls(base, incarnation), m -> take(m.body()))
        .completion()
        .onSuccess(
            v -> {
              publish();
              clock = new Clockwork(vertx, times.notice(), times.gatewaySilence(), this::tick);
            });
  }

  private void publish() {
    List<String> adapters =
        peers.values().stream()
            .flatMap(peer -> peer.streams().stream())
            .map(ServedStream::adapter)
            .flatMap(Optional::stream)
            .distinct()
            .limit(BaseNotice.MAX_ADAPTERS)
            .toList();
    vertx
        .eventBus()
        .publish(
            BaseAddresses.NOTICES,
            new BaseNotice(
                base,
                incarnation,
                state,
                engine.load(),
                maxRunning,
                engine.contextLength(),
                model,
                fingerprint,
                adapters));
  }

  private void tick(long now, boolean late) {
    publish();
    if (late) {
      return; // Pings that came meanwhile have not been looked at.
    }
    for (GatewayPeer peer : List.copyOf(peers.values())) {
      if (now - peer.heardNanos() > times.gatewaySilence().toNanos()) {
        forget(peer);
      }
    }
    settle();
  }

  private void forget(GatewayPeer peer) {
    peers.remove(peer.gateway());
    if (!peer.streams().isEmpty()) {
      log.warn(
          "gateway {} has been silent for {} ms; its {} streams are ended",
          peer.gateway(),
          times.gatewaySilence().toMillis(),
          peer.streams().size());
    }
    peer.streams().forEach(stream -> peer.cancel(stream.id()));
  }

  private void take(BaseCall call) {
    GatewayPeer peer = peers.computeIfAbsent(call.gateway(), this::peer);
    peer.heard(System.nanoTime());
    switch (call) {
      case BaseCall.Generate generate -> generate(peer, generate);
      case BaseCall.Credit credit -> peer.credit(credit.stream(), credit.credit());
      case BaseCall.Cancel cancel -> peer.cancel(cancel.stream());
      case BaseCall.Ping ping -> peer.ping(ping);
    }
    settle();
  }

  private GatewayPeer peer(UUID gateway) {
    return new GatewayPeer(
        incarnation,
        gateway,
        vertx.eventBus(),
        task -> context.runOnContext(v -> task.run()),
        this::settle);
  }

  private void generate(GatewayPeer peer, BaseCall.Generate call) {
    ServedStream stream = peer.open(call);
    if (stream == null) {
      return; // The call came twice.
    }
    if (state != State.SERVING) {
      stream.fail(
          new InfiniLoraException(
              ErrorCode.UNAVAILABLE, "base model %s is shutting down".formatted(base)));
    } else {
      stream.begin(engine, call.request(), call.credit());
    }
  }

  /**
   * Tells gateways to send nothing more; what they have sent goes on. Any thread, once deployed.
   *
   * @return completes on the event loop when no stream is left
   */
  public Future<Void> drain() {
    context.runOnContext(
        v -> {
          if (state == State.SERVING) {
            state = State.DRAINING;
            publish();
          }
          settle();
        });
    return drained.future();
  }

  private void settle() {
    if (state != State.SERVING && peers.values().stream().noneMatch(GatewayPeer::busy)) {
      drained.tryComplete();
    }
  }

  /** Ends the streams that are left, which go on elsewhere, and says goodbye. */
  @Override
  public Future<?> stop() {
    state = State.GONE;
    clock.stop();
    InfiniLoraException gone =
        new InfiniLoraException(
            ErrorCode.UNAVAILABLE, "base model %s is shutting down".formatted(base));
    for (GatewayPeer peer : peers.values()) {
      peer.streams().forEach(stream -> stream.fail(gone));
      peer.flush();
    }
    publish();
    drained.tryComplete();
    return Future.succeededFuture();
  }
}
