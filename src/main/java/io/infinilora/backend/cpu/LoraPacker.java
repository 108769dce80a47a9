package io.infinilora.backend.cpu;

import io.infinilora.core.DType;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.HashMap;
import java.util.Map;

/**
 * Packs the pairs of one adapter at one site. bfloat16 stays bfloat16, everything else becomes (A)
 * or stays (B) exact. A matrix that several pairs share, as adapters of fused experts do, is packed
 * once.
 */
final class LoraPacker {
  /** What makes two views of a file the same matrix. */
  private record View(
      MemorySegment data,
      DType dtype,
      long offset,
      int rows,
      int cols,
      long rowStride,
      long colStride) {

    static View of(WeightMatrix m) {
      return new View(
          m.tensor().data(),
          m.dtype(),
          m.offset(),
          m.rows(),
          m.cols(),
          m.rowStride(),
          m.colStride());
    }
  }

  private final Arena arena;
  private final Map<View, Long> packedA = new HashMap<>();
  private final Map<View, PackedMatrix> packedB = new HashMap<>();
  private final Map<Integer, Long> zeros = new HashMap<>();
  private int in;
  private long bytes;

  /**
   * @param arena where the packed matrices live
   */
  LoraPacker(Arena arena) {
    this.arena = arena;
  }

  /** Input features of all pairs; 0 before the first. */
  int in() {
    return in;
  }

  /** Bytes taken so far. */
  long bytes() {
    return bytes;
  }

  /**
   * Packs a pair.
   *
   * @param factors may be null
   * @throws IllegalArgumentException if A and B, or the inputs of two pairs, do not fit together
   */
  LoraPair pack(LoraFactors factors) {
    if (factors == null) {
      return LoraPair.ABSENT;
    }
    WeightMatrix a = factors.a();
    WeightMatrix b = factors.b();
    int rank = a.rows();
    if (b.cols() != rank || (in != 0 && a.cols() != in)) {
      throw new IllegalArgumentException("LoRA factors do not fit: " + a + ", " + b);
    }
    in = a.cols();
    boolean brain = a.dtype() == DType.BF16;
    if (a.rowOrder() != null || b.rowOrder() != null) {
      return new LoraPair(rank, brain, packA(a), packB(b), factors.scale());
    }
    long address = packedA.computeIfAbsent(View.of(a), view -> packA(a));
    PackedMatrix packed = packedB.computeIfAbsent(View.of(b), view -> packB(b));
    return new LoraPair(rank, brain, address, packed, factors.scale());
  }

  private long packA(WeightMatrix a) {
    boolean brain = a.dtype() == DType.BF16;
    long rowBytes = LoraKernels.rowBytes(a.cols(), brain);
    long address = allocate(Memory.roundUp(a.rows(), LoraKernels.RANKS) * rowBytes);
    RowDecoder decoder = new RowDecoder(a);
    for (int r = 0; r < a.rows(); r++) {
      if (brain) {
        packBrainRow(a, r, address + r * rowBytes);
      } else {
        decoder.decode(r, address + r * rowBytes);
      }
    }
    return address;
  }

  /** Two consecutive vectors of elements share one vector of words: the first in the low halves. */
  private static void packBrainRow(WeightMatrix a, int row, long into) {
    TensorView tensor = a.tensor();
    long from = a.element(row);
    int lanes = Memory.LANES;
    for (int k = 0; k < a.cols(); k++) {
      long at = 2 * (from + k * a.colStride());
      short bits = tensor.data().get(ValueLayout.JAVA_SHORT_UNALIGNED, at);
      int pair = k / (2 * lanes);
      int within = k % (2 * lanes);
      long word = into + 4L * (pair * lanes + within % lanes);
      Memory.ALL.set(ValueLayout.JAVA_SHORT_UNALIGNED, word + within / lanes * 2L, bits);
    }
  }

  private PackedMatrix packB(WeightMatrix b) {
    int panels = PackedMatrix.panels(b.rows());
    long bias = zeros.computeIfAbsent(panels, p -> allocate(p * TileKernels.PANEL_BYTES));
    return MatrixPacker.pack(b, allocate(MatrixPacker.bytes(b)), bias);
  }

  private long allocate(long size) {
    bytes += size;
    return arena.allocate(size, Memory.ALIGNMENT).address();
  }
}
