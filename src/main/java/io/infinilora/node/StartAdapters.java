package io.infinilora.node;

import io.infinilora.config.InfiniLoraConfig;
import io.vertx.core.Future;
import io.vertx.core.Vertx;

/**
 * The adapters that a process registers by itself: those of its settings when it starts, and those
 * of the directory that it watches.
 */
final class StartAdapters {
  private final Vertx vertx;
  private final InfiniLoraConfig config;
  private final NodeSources sources;
  private final NodeAdapters adapters;
  private AdapterWatch watch;

  StartAdapters(Vertx vertx, InfiniLoraConfig config, NodeSources sources, NodeAdapters adapters) {
    this.vertx = vertx;
    this.config = config;
    this.sources = sources;
    this.adapters = adapters;
  }

  /** Registers them; one that is refused does not affect the others. */
  Future<AdapterReport> register() {
    return watch()
        .compose(
            v ->
                Future.fromCompletionStage(
                    sources.register(adapters).subscribeAsCompletionStage()));
  }

  /** Looks before adapters are registered, so that a change meanwhile is noticed. */
  private Future<?> watch() {
    if (config.lora().watch().isEmpty() || sources.adapterDirectory().isEmpty()) {
      return Future.succeededFuture();
    }
    return vertx
        .executeBlocking(
            () -> AdapterWatch.of(sources.adapterDirectory().get(), vertx, adapters), false)
        .onSuccess(
            begun -> {
              watch = begun;
              begun.every(config.lora().watch().get());
            });
  }

  /** Follows the directory of adapters; null if that was not asked for. */
  AdapterWatch adapterWatch() {
    return watch;
  }
}
