package io.infinilora.lora;

import io.infinilora.adapter.AdapterStore;
import io.infinilora.adapter.LoraExecutor;
import io.infinilora.backend.Backend;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.AttachBase;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.LoraLayerRequest;
import io.vertx.core.Future;
import io.vertx.core.VerticleBase;
import io.vertx.core.eventbus.Message;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One LoRA Server: takes layer requests off the event bus and hands them to its driver thread. The
 * event loop never computes and never waits.
 */
public final class LoraServerVerticle extends VerticleBase {
  private static final Logger log = LoggerFactory.getLogger(LoraServerVerticle.class);

  private final AdapterStore store;
  private final Backend backend;
  private final int threads;
  private LoraDriver driver;

  /**
   * A server over the adapters of {@code store}.
   *
   * @param threads CPU threads that compute deltas
   */
  public LoraServerVerticle(AdapterStore store, Backend backend, int threads) {
    this.store = store;
    this.backend = backend;
    this.threads = threads;
  }

  @Override
  public Future<?> start() {
    driver =
        new LoraDriver("lora-driver", backend.openStream("lora", threads), new LoraExecutor(store));
    vertx
        .eventBus()
        .<LoraLayerRequest>localConsumer(LoraAddresses.REQUESTS, m -> driver.submit(m.body()));
    vertx.eventBus().<AttachBase>localConsumer(LoraAddresses.ATTACH, this::attach);
    return Future.succeededFuture();
  }

  private void attach(Message<AttachBase> message) {
    log.info("base model {} attached to the LoRA server", message.body().base());
    message.reply(
        new AdapterListing(
            store.list().stream()
                .map(a -> new AdapterListing.Entry(a.id(), a.slot(), a.targets()))
                .toList()));
  }

  @Override
  public Future<?> stop() {
    return vertx.executeBlocking(
        () -> {
          driver.close();
          return null;
        });
  }
}
