package io.infinilora.backend.cpu;

import io.infinilora.backend.LoraWeights;
import io.infinilora.core.DType;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.util.List;

/**
 * One adapter's pairs at one site, in memory of their own. A of each target has its rows padded to
 * whole steps of the dot product and to a multiple of {@link LoraKernels#RANKS} rows, all zero; B
 * is a {@link PackedMatrix}. bfloat16 stays bfloat16, everything else becomes (A) or stays (B)
 * exact.
 */
final class CpuLoraWeights implements LoraWeights {
  /**
   * One target.
   *
   * @param rank 0 if the adapter leaves it alone; then the rest is void
   * @param brain whether A is bfloat16
   */
  record Target(int rank, boolean brain, long a, PackedMatrix b, float scale) {}

  private static final Target ABSENT = new Target(0, false, 0, null, 0);

  private final CpuBackend owner;
  private final Arena arena = Arena.ofShared();
  private final Target[] targets;
  private int in;
  private long bytes;

  CpuLoraWeights(CpuBackend owner, List<LoraFactors> factors) {
    this.owner = owner;
    targets = new Target[factors.size()];
    boolean complete = false;
    try {
      for (int t = 0; t < targets.length; t++) {
        LoraFactors f = factors.get(t);
        targets[t] = f == null ? ABSENT : pack(f);
      }
      complete = true;
    } finally {
      if (!complete) {
        arena.close();
      }
    }
  }

  private Target pack(LoraFactors f) {
    int rank = f.a().rows();
    if (f.b().cols() != rank || (in != 0 && f.a().cols() != in)) {
      throw new IllegalArgumentException("LoRA factors do not fit: " + f.a() + ", " + f.b());
    }
    in = f.a().cols();
    boolean brain = f.a().dtype() == DType.BF16;
    long rowBytes = LoraKernels.rowBytes(in, brain);
    long a = allocate(Memory.roundUp(rank, LoraKernels.RANKS) * rowBytes);
    RowDecoder decoder = new RowDecoder(f.a().tensor());
    for (int r = 0; r < rank; r++) {
      if (brain) {
        packBrainRow(f.a().tensor(), r, a + r * rowBytes);
      } else {
        decoder.decode(r, a + r * rowBytes);
      }
    }
    WeightMatrix b = f.b();
    long zeros = allocate(PackedMatrix.panels(b.rows()) * TileKernels.PANEL_BYTES);
    PackedMatrix packed = MatrixPacker.pack(b, allocate(MatrixPacker.bytes(b)), zeros);
    return new Target(rank, brain, a, packed, f.scale());
  }

  /** Two consecutive vectors of elements share one vector of words: the first in the low halves. */
  private static void packBrainRow(TensorView a, int row, long into) {
    long from = row * a.rowBytes();
    int lanes = Memory.LANES;
    for (int k = 0; k < a.cols(); k++) {
      short bits = a.data().get(ValueLayout.JAVA_SHORT_UNALIGNED, from + 2L * k);
      int pair = k / (2 * lanes);
      int within = k % (2 * lanes);
      long word = into + 4L * (pair * lanes + within % lanes);
      Memory.ALL.set(ValueLayout.JAVA_SHORT_UNALIGNED, word + within / lanes * 2L, bits);
    }
  }

  private long allocate(long size) {
    bytes += size;
    return arena.allocate(size, Memory.ALIGNMENT).address();
  }

  @Override
  public int rank(int target) {
    return targets[target].rank();
  }

  @Override
  public int in() {
    return in;
  }

  @Override
  public long bytes() {
    return bytes;
  }

  CpuBackend owner() {
    return owner;
  }

  int targets() {
    return targets.length;
  }

  Target target(int t) {
    return targets[t];
  }

  boolean alive() {
    return arena.scope().isAlive();
  }

  void free() {
    arena.close();
  }
}
