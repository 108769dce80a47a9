package io.infinilora.backend.cpu;

import io.infinilora.backend.Embedding;
import io.infinilora.core.WeightMatrix;

/** A table that stays where the file is mapped; rows are decoded when looked up. */
record MappedEmbedding(CpuBackend owner, WeightMatrix table) implements Embedding {
  @Override
  public int vocab() {
    return table.rows();
  }

  @Override
  public int hidden() {
    return table.cols();
  }
}
