package io.infinilora.node;

import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.backend.Backend;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.LoraConfig;
import io.infinilora.core.LoraShard;
import io.infinilora.core.ModelSpec;
import io.infinilora.lora.FrameServer;
import io.infinilora.lora.LoraServerVerticle;
import io.infinilora.lora.LoraShardVerticle;
import io.infinilora.metrics.LoraMetrics;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * The shards of a LoRA server that a process runs, and its coordinator if the first of them is
 * among them: so there is one coordinator in a cluster, and it is there when that shard is.
 *
 * @param config how the server is divided, and with what memory and threads
 * @param spec the model
 * @param backend where shards compute
 * @param sources finds adapters' files
 * @param metrics told of the shards' memory
 */
record LoraServerPart(
    InfiniLoraConfig config,
    ModelSpec spec,
    Backend backend,
    AdapterSources sources,
    LoraMetrics metrics) {

  /** Budgets of one shard, or of a base model that computes its deltas itself. */
  static AdapterBudgets budgets(LoraConfig lora) {
    return new AdapterBudgets(
        lora.deviceMemory().bytes(), lora.hostMemory().bytes(), lora.eviction());
  }

  /** Those that run here. */
  List<LoraShard> shards() {
    List<LoraShard> all = config.lora().shards().shards();
    return config
        .cluster()
        .shards()
        .map(indices -> indices.stream().distinct().sorted().map(all::get).toList())
        .orElse(all);
  }

  /** Whether the coordinator runs here. */
  boolean coordinates() {
    return shards().getFirst().index() == 0;
  }

  /** Whether nothing of the server runs elsewhere. */
  boolean isWhole() {
    return shards().size() == config.lora().shards().shards().size();
  }

  /**
   * Deploys them.
   *
   * @param frames takes activations of base models in other processes, if there may be any
   */
  Future<?> deploy(Vertx vertx, Optional<FrameServer> frames) {
    List<Future<?>> deployed = new ArrayList<>();
    for (LoraShard shard : shards()) {
      deployed.add(
          vertx.deployVerticle(
              new LoraShardVerticle(
                  spec,
                  shard,
                  backend,
                  budgets(config.lora()),
                  config.engine().loraThreadsOrAll(),
                  sources,
                  metrics,
                  frames)));
    }
    Future<?> all = Future.all(deployed);
    return coordinates()
        ? all.compose(v -> vertx.deployVerticle(new LoraServerVerticle(config.lora().shards())))
        : all;
  }
}
