package io.infinilora.backend.cpu;

import io.infinilora.backend.Projection;
import java.util.List;

/** Packed layers with a common input. */
record PackedProjection(CpuBackend owner, List<PackedMatrix> matrices) implements Projection {
  @Override
  public int outputs() {
    return matrices.size();
  }

  @Override
  public int in() {
    return matrices.getFirst().in();
  }

  @Override
  public int out(int i) {
    return matrices.get(i).out();
  }

  @Override
  public long bytes() {
    return matrices.stream().mapToLong(PackedMatrix::bytes).sum();
  }
}
