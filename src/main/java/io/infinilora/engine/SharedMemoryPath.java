package io.infinilora.engine;

import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.core.ModelSpec;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.LoraLayerRequest;
import io.infinilora.wire.LoraStep;
import io.infinilora.wire.ShardNotice;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.DeliveryOptions;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * The way to a shard of the same process: requests on the event bus, rows in a {@link
 * LoraExchange}. The memory stays when the shard is replaced.
 */
final class SharedMemoryPath implements StepPath {
  private static final DeliveryOptions LOCAL = new DeliveryOptions().setLocalOnly(true);

  private final String session;
  private final Vertx vertx;
  private final Backend backend;
  private final ModelSpec spec;
  private final LoraShard shard;
  private final int rows;
  private LoraExchange exchange;
  private ShardNotice leading;
  private boolean open;

  /**
   * Closed exchanges that a server was inside of when last looked at; one per server that hangs.
   */
  private final List<LoraExchange> haunted = new ArrayList<>();

  SharedMemoryPath(
      String session, Vertx vertx, Backend backend, ModelSpec spec, LoraShard shard, int rows) {
    this.session = session;
    this.vertx = vertx;
    this.backend = backend;
    this.spec = spec;
    this.shard = shard;
    this.rows = rows;
  }

  private LoraExchange allocate() {
    return new LoraExchange(backend, spec, shard, rows);
  }

  @Override
  public Future<Void> lead(ShardNotice notice) {
    leading = notice;
    Future<LoraExchange> memory =
        exchange == null
            ? vertx.executeBlocking(this::allocate).onSuccess(fresh -> exchange = fresh)
            : Future.succeededFuture(exchange);
    return memory.onSuccess(v -> open = leading == notice).mapEmpty();
  }

  @Override
  public boolean isOpen() {
    return open;
  }

  @Override
  public String trouble() {
    return "";
  }

  @Override
  public String session() {
    return session;
  }

  @Override
  public Announced announce(ShardStep step) {
    LoraExchange here = exchange;
    LoraStep announced =
        new LoraStep(
            step.id(),
            here,
            step.incarnation(),
            step.groups(),
            step.slots(),
            step.targets(),
            step.sites(),
            step.deadlineNanos());
    String address = LoraAddresses.requests(step.incarnation());
    for (int layer = shard.firstLayer(spec); layer < shard.endLayer(spec); layer++) {
      vertx.eventBus().send(address, new LoraLayerRequest(announced, layer), LOCAL);
    }
    return new Announced() {
      @Override
      public ShardPort port(OpStream ops) {
        return new ExchangePort(here, step, ops);
      }

      @Override
      public void abandon() {
        here.close(
            new InfiniLoraException(
                ErrorCode.UNAVAILABLE, "LoRA step %d was given up".formatted(step.id())));
      }
    };
  }

  @Override
  public void lost(InfiniLoraException cause) {
    leading = null;
    open = false;
    giveUp(cause);
  }

  @Override
  public void giveUp(InfiniLoraException cause) {
    if (exchange != null) {
      exchange.close(cause);
    }
  }

  @Override
  public Future<Void> recover() {
    if (exchange == null || exchange.isOpen()) {
      return Future.succeededFuture();
    }
    haunted.add(exchange);
    Optional<LoraExchange> quiet = haunted.stream().filter(LoraExchange::isQuiet).findFirst();
    if (quiet.isPresent()) {
      haunted.remove(quiet.get());
      exchange = quiet.get().reopened();
      return Future.succeededFuture();
    }
    return vertx
        .executeBlocking(this::allocate)
        .onSuccess(fresh -> exchange = fresh)
        .onFailure(e -> haunted.remove(exchange))
        .mapEmpty();
  }

  @Override
  public void close() {
    open = false;
  }
}
