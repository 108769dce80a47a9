package io.infinilora.backend.cpu;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;

/**
 * Off-heap memory by absolute address, for kernels behind checked operators. One constant segment
 * that spans the address space lets C2 drop the liveness and bounds checks that a segment per
 * operand would need; the price is that nothing here is checked.
 */
final class Memory {
  /** All of it. */
  static final MemorySegment ALL = MemorySegment.NULL.reinterpret(Long.MAX_VALUE);

  /** The widest float vector of this machine. */
  static final VectorSpecies<Float> F = FloatVector.SPECIES_PREFERRED;

  /** Integers of the same shape. */
  static final VectorSpecies<Integer> I = VectorSpecies.of(int.class, F.vectorShape());

  /** A float at any address. */
  static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  /** Lanes of {@link #F}. */
  static final int LANES = F.length();

  /** Bytes of a vector. */
  static final int VECTOR_BYTES = LANES * Float.BYTES;

  /** Alignment of all allocations: a cache line, and the widest vector. */
  static final int ALIGNMENT = 64;

  /** Byte order of everything here. */
  static final ByteOrder LE = ByteOrder.LITTLE_ENDIAN;

  private Memory() {}

  static float get(long address) {
    return ALL.get(FLOAT, address);
  }

  static void set(long address, float value) {
    ALL.set(FLOAT, address, value);
  }

  static void copy(long from, long to, long bytes) {
    MemorySegment.copy(ALL, from, ALL, to, bytes);
  }

  static void zero(long address, long bytes) {
    ALL.asSlice(address, bytes).fill((byte) 0);
  }

  /** {@code n} rounded up to a multiple of {@code unit}. */
  static int roundUp(int n, int unit) {
    return Math.ceilDiv(n, unit) * unit;
  }
}
