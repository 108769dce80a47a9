package io.infinilora.engine;

import io.infinilora.backend.Backend;
import io.infinilora.backend.Signal;
import io.infinilora.backend.Tensor;
import io.infinilora.core.LoraShard;
import io.infinilora.core.ModelSpec;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.frames.FrameLayout;

/** What a base model needs for a shard in another process, however often it connects. */
final class FrameMemory {
  private final ModelSpec spec;
  private final LoraShard shard;
  private final int rows;
  private final FrameLayout layout;
  private final Signal computed;
  private final Tensor terms;

  /** Allocates; any thread that may block. */
  FrameMemory(Backend backend, ModelSpec spec, LoraShard shard, int rows) {
    this.spec = spec;
    this.shard = shard;
    this.rows = rows;
    layout = new FrameLayout(spec, shard);
    computed = backend.signal();
    terms =
        LoraExchange.terms(spec, shard)
            ? backend.tensor(rows * spec.mlp().moe().topK(), spec.hidden())
            : null;
  }

  ModelSpec spec() {
    return spec;
  }

  LoraShard shard() {
    return shard;
  }

  /** Most rows of a step. */
  int rows() {
    return rows;
  }

  FrameLayout layout() {
    return layout;
  }

  /** Released when a site's deltas have come; see {@link LoraExchange#computed}. */
  Signal computed() {
    return computed;
  }

  /** Room for the terms of {@code down} of so many rows. */
  Tensor terms(int stepRows) {
    return terms.first(stepRows * spec.mlp().moe().topK());
  }
}
