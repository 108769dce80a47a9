package io.infinilora.backend.cuda;

import io.infinilora.backend.RopeTable;
import io.infinilora.core.RopeSpec;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Turns per position of each pair, in float64, so that the angle is right however long the context
 * is.
 *
 * @param turns device address of {@code [headDim / 2]}
 * @param magnitude factor of cosines and sines
 */
record CudaRopeTable(CudaBackend owner, int headDim, long turns, float magnitude)
    implements RopeTable {

  static CudaRopeTable create(CudaBackend owner, RopeSpec rope, int headDim) {
    double[] turns = rope.inverseFrequencies(headDim);
    for (int i = 0; i < turns.length; i++) {
      turns[i] /= 2 * Math.PI;
    }
    long address = owner.device().allocate((long) Double.BYTES * turns.length, "weights").address();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment values = arena.allocateFrom(ValueLayout.JAVA_DOUBLE, turns);
      owner.device().upload(values, address);
    }
    return new CudaRopeTable(owner, headDim, address, (float) rope.magnitude());
  }
}
