package io.infinilora.lora;

import io.infinilora.backend.Backend;
import io.infinilora.config.EngineConfig;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.core.ModelSpec;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.LoraCourier;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.LoraLayerRequest;
import io.infinilora.wire.LoraStep;
import io.infinilora.wire.frames.FrameLayout;
import io.infinilora.wire.frames.Hello;
import io.infinilora.wire.frames.ModelShapes;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.DeliveryOptions;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;

/**
 * What one shard is to base models in other processes: who may connect, the memory that mirrors
 * theirs, and where their steps go. Thread-safe.
 */
final class RemoteBases {
  private static final DeliveryOptions LOCAL = new DeliveryOptions().setLocalOnly(true);

  private final Vertx vertx;
  private final Backend backend;
  private final ModelSpec spec;
  private final LoraShard shard;
  private final UUID incarnation;
  private final Consumer<String> sessionEnded;
  private final FrameLayout layout;
  private final Set<BaseSession> sessions = ConcurrentHashMap.newKeySet();

  /** Closed exchanges, whose memory serves others as soon as the driver has left them. */
  private final List<LoraExchange> returned = new ArrayList<>();

  private boolean closed;

  /**
   * Of one incarnation of a shard.
   *
   * @param sessionEnded is told, on any thread, that the leases of a session are over
   */
  RemoteBases(
      Vertx vertx,
      Backend backend,
      ModelSpec spec,
      LoraShard shard,
      UUID incarnation,
      Consumer<String> sessionEnded) {
    this.vertx = vertx;
    this.backend = backend;
    this.spec = spec;
    this.shard = shard;
    this.incarnation = incarnation;
    this.sessionEnded = sessionEnded;
    layout = new FrameLayout(spec, shard);
  }

  UUID incarnation() {
    return incarnation;
  }

  ModelSpec spec() {
    return spec;
  }

  LoraShard shard() {
    return shard;
  }

  FrameLayout layout() {
    return layout;
  }

  /**
   * Lets a base in.
   *
   * @throws InfiniLoraException if it does not belong here
   */
  void admit(Hello hello, BaseSession session) {
    String shapes = ModelShapes.of(spec, shard);
    if (!hello.shapes().equals(shapes)) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "base model %s is not the one of this LoRA server: it has %s, the server %s"
              .formatted(hello.base(), hello.shapes(), shapes));
    }
    int most = Math.min(EngineConfig.MOST_BATCHED_TOKENS, layout.mostRows());
    if (hello.rows() < 1 || hello.rows() > most) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "base model %s announces steps of %d rows (its engine.maxBatchedTokens), this LoRA server takes 1 to %d"
              .formatted(hello.base(), hello.rows(), most));
    }
    synchronized (this) {
      if (!closed) {
        sessions.add(session);
        return;
      }
    }
    throw gone();
  }

  private InfiniLoraException gone() {
    return new InfiniLoraException(
        ErrorCode.UNAVAILABLE, "LoRA shard %s has ended".formatted(shard));
  }

  /** A session that was admitted has ended. */
  void left(BaseSession session, String id) {
    sessions.remove(session);
    sessionEnded.accept(id);
  }

  /**
   * An open exchange in memory that nobody uses any more, if there is some that is large enough.
   */
  Optional<LoraExchange> reuse(int rows, LoraCourier courier) {
    synchronized (returned) {
      for (LoraExchange exchange : returned) {
        if (exchange.capacity() >= rows && exchange.isQuiet()) {
          returned.remove(exchange);
          return Optional.of(exchange.lent(backend, courier));
        }
      }
      return Optional.empty();
    }
  }

  /** Memory of its own, which is ready for {@link #reuse}. Blocks. */
  void allocate(int rows) {
    LoraExchange fresh = new LoraExchange(backend, spec, shard, rows);
    giveBack(fresh);
  }

  /** Closes an exchange and takes its memory back. */
  void giveBack(LoraExchange exchange) {
    exchange.close(gone());
    synchronized (returned) {
      returned.add(exchange);
    }
  }

  /** Posts a step's layers to the shard, as far as it holds them. */
  void post(LoraStep step) {
    String address = LoraAddresses.requests(incarnation);
    for (int layer = shard.firstLayer(spec); layer < shard.endLayer(spec); layer++) {
      vertx.eventBus().send(address, new LoraLayerRequest(step, layer), LOCAL);
    }
  }

  /** Ends all sessions; none begins any more. */
  void close() {
    synchronized (this) {
      closed = true;
    }
    sessions.forEach(BaseSession::end);
  }
}
