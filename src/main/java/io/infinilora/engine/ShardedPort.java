package io.infinilora.engine;

import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.LoraSite;
import io.infinilora.model.LoraPort;
import java.util.List;

/**
 * Several shards as one port: a site is published to all that take part in it, then joined. Where
 * experts are divided, the terms of {@code down} come from several shards; they are put together
 * before they are summed, so that the sum is that of an undivided server. Driver thread only.
 */
final class ShardedPort implements LoraPort {
  private final List<ShardPort> shards;
  private final OpStream ops;

  ShardedPort(List<ShardPort> shards, OpStream ops) {
    this.shards = shards;
    this.ops = ops;
  }

  @Override
  public boolean reads(int layer, LoraSite site) {
    return shards.stream().anyMatch(shard -> shard.reads(layer, site));
  }

  @Override
  public void publish(int layer, LoraSite site, Tensor x) {
    shards.forEach(shard -> shard.publish(layer, site, x));
  }

  @Override
  public void join(int layer, LoraSite site, Tensor x, Tensor... outs) {
    shards.forEach(shard -> shard.join(layer, site, x, outs));
  }

  @Override
  public void publishRouted(int layer, LoraSite site, Tensor x, Routing routing) {
    shards.forEach(shard -> shard.publishRouted(layer, site, x, routing));
  }

  @Override
  public void joinRouted(int layer, LoraSite site, Tensor x, Routing routing, Tensor... outs) {
    List<ShardPort> parts = shards.stream().filter(s -> s.takesPart(layer, site)).toList();
    if (site != LoraSite.MLP_OUT || parts.isEmpty() || !parts.getFirst().terms()) {
      parts.forEach(shard -> shard.joinRouted(layer, site, x, routing, outs));
      return;
    }
    ShardPort first = parts.getFirst();
    first.await(layer, site);
    Tensor terms = first.downTerms();
    for (ShardPort part : parts.subList(1, parts.size())) {
      part.await(layer, site);
      // Each term is in one shard's buffer and zero in the others'.
      ops.add(part.downTerms(), terms);
    }
    first.addTerms(terms, outs[0]);
  }
}
