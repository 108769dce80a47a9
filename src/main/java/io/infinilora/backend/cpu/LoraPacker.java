package io.infinilora.backend.cpu;

import io.infinilora.backend.decode.RowDecoder;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;

/** Packs the matrices of a {@link LoraLayout} where it has placed them. */
final class LoraPacker {
  private LoraPacker() {}

  /**
   * Packs everything.
   *
   * @param into zeroed memory for the layout's extent
   */
  static void pack(LoraLayout layout, long into) {
    for (LoraLayout.PlacedRows placed : layout.rows()) {
      packA(placed.source(), placed.to(), into);
    }
    for (LoraLayout.PlacedPanels placed : layout.panels()) {
      int row = 0;
      for (PackedMatrix piece : placed.to().pieces()) {
        MatrixPacker.pack(placed.source(), row, piece, into + piece.address());
        row += piece.out();
      }
    }
  }

  private static void packA(WeightMatrix a, LoraRows to, long into) {
    long stepBytes = LoraKernels.stepBytes(to.brain());
    RowDecoder decoder = new RowDecoder(a);
    try (Arena arena = Arena.ofConfined()) {
      // Beyond the columns it stays zero.
      long row =
          arena.allocate(LoraKernels.steps(a.cols()) * stepBytes, Memory.ALIGNMENT).address();
      for (LoraRows.Run run : to.runs()) {
        for (int r = run.rank(); r < Math.min(run.rank() + run.ranks(), a.rows()); r++) {
          if (to.brain()) {
            brainRow(a, r, row);
          } else {
            decoder.decode(r, row);
          }
          long size = run.steps() * stepBytes;
          long at = into + run.address() + (r - run.rank()) * size;
          Memory.copy(row + run.step() * stepBytes, at, size);
        }
      }
    }
  }

  /** Two consecutive vectors of elements share one vector of words: the first in the low halves. */
  private static void brainRow(WeightMatrix a, int row, long into) {
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
}
