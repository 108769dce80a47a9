package io.infinilora.backend.cpu;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
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

  /** Lanes of {@link #F}. */
  static final int LANES = F.length();

  /** Bytes of a vector. */
  static final int VECTOR_BYTES = LANES * Float.BYTES;

  /** Alignment of all allocations: a cache line, and the widest vector. */
  static final int ALIGNMENT = 64;

  private static final ByteOrder LE = ByteOrder.LITTLE_ENDIAN;

  private Memory() {}

  static float get(long address) {
    return ALL.get(ValueLayout.JAVA_FLOAT_UNALIGNED, address);
  }

  static void set(long address, float value) {
    ALL.set(ValueLayout.JAVA_FLOAT_UNALIGNED, address, value);
  }

  static FloatVector load(long address) {
    return FloatVector.fromMemorySegment(F, ALL, address, LE);
  }

  static IntVector loadInts(long address) {
    return IntVector.fromMemorySegment(I, ALL, address, LE);
  }

  static FloatVector broadcast(long address) {
    return FloatVector.broadcast(F, ALL.get(ValueLayout.JAVA_FLOAT_UNALIGNED, address));
  }

  static void store(FloatVector v, long address) {
    v.intoMemorySegment(ALL, address, LE);
  }

  /** The first {@code lanes} elements; the others are 0. */
  static FloatVector loadPart(long address, int lanes) {
    return FloatVector.fromMemorySegment(F, ALL, address, LE, F.indexInRange(0, lanes));
  }

  /** Stores the first {@code lanes} elements. */
  static void storePart(FloatVector v, long address, int lanes) {
    v.intoMemorySegment(ALL, address, LE, F.indexInRange(0, lanes));
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
