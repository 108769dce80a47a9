package io.infinilora.backend.cpu;

import io.infinilora.backend.RopeTable;
import io.infinilora.core.RopeSpec;
import java.util.Arrays;

/**
 * Cosines and sines of the rotation, computed in double and kept for the positions used so far, in
 * pieces of {@value #PIECE} positions. Thread-safe.
 */
final class CpuRopeTable implements RopeTable {
  private static final int PIECE = 256;

  private final CpuBackend owner;
  private final int headDim;
  private final double[] inverseFrequencies;
  private final double magnitude;

  /** Addresses of the pieces; 0 for those not yet made. */
  private volatile long[] pieces = new long[0];

  CpuRopeTable(CpuBackend owner, RopeSpec rope, int headDim) {
    this.owner = owner;
    this.headDim = headDim;
    this.inverseFrequencies = rope.inverseFrequencies(headDim);
    this.magnitude = rope.magnitude();
  }

  @Override
  public int headDim() {
    return headDim;
  }

  CpuBackend owner() {
    return owner;
  }

  /** Address of {@code headDim / 2} cosines, followed by as many sines. */
  long angles(int position) {
    int piece = position / PIECE;
    long[] known = pieces;
    long address = piece < known.length ? known[piece] : 0;
    if (address == 0) {
      address = make(piece);
    }
    return address + (long) (position % PIECE) * headDim * Float.BYTES;
  }

  private synchronized long make(int piece) {
    long[] known = pieces;
    if (piece < known.length && known[piece] != 0) {
      return known[piece];
    }
    long[] grown = Arrays.copyOf(known, Math.max(known.length, piece + 1));
    long address = owner.allocate((long) PIECE * headDim * Float.BYTES);
    int half = headDim / 2;
    for (int p = 0; p < PIECE; p++) {
      long row = address + (long) p * headDim * Float.BYTES;
      for (int i = 0; i < half; i++) {
        double angle = (piece * (double) PIECE + p) * inverseFrequencies[i];
        Memory.set(row + 4L * i, (float) (Math.cos(angle) * magnitude));
        Memory.set(row + 4L * (half + i), (float) (Math.sin(angle) * magnitude));
      }
    }
    grown[piece] = address;
    pieces = grown;
    return address;
  }
}
