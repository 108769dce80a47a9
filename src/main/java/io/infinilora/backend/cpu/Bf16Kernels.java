package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.ALL;
import static io.infinilora.backend.cpu.Memory.F;
import static io.infinilora.backend.cpu.Memory.I;
import static io.infinilora.backend.cpu.Memory.LANES;
import static io.infinilora.backend.cpu.Memory.LE;
import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.I2S;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_S2I;

import java.lang.foreign.ValueLayout;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/** Rows between float32 and bf16, the upper half of a float32. {@code n} counts elements. */
final class Bf16Kernels {
  /** As many shorts as there are floats in a vector. */
  private static final VectorSpecies<Short> S =
      VectorSpecies.of(short.class, VectorShape.forBitSize(F.vectorBitSize() / 2));

  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;

  /** Half of the last place that stays, less one. */
  private static final int HALF_BELOW = 0x7FFF;

  private static final int MAGNITUDE = 0x7FFFFFFF;
  private static final int INFINITY = 0x7F800000;

  /** Set in a NaN, so that it stays one when its lower half is gone. */
  private static final int QUIET = 0x40;

  private Bf16Kernels() {}

  /** Rounds to nearest, ties to even. */
  static void pack(long x, long out, int n) {
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
      IntVector bits = FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE).reinterpretAsInts();
      IntVector high = bits.lanewise(LSHR, 16);
      IntVector rounded = bits.add(HALF_BELOW).add(high.and(1)).lanewise(LSHR, 16);
      ((ShortVector)
              rounded
                  .blend(high.or(QUIET), bits.and(MAGNITUDE).compare(GT, INFINITY))
                  .convertShape(I2S, S, 0))
          .intoMemorySegment(ALL, out + 2L * i, LE);
    }
    for (; i < n; i++) {
      ALL.set(SHORT, out + 2L * i, pack(Memory.get(x + 4L * i)));
    }
  }

  private static short pack(float value) {
    int bits = Float.floatToRawIntBits(value);
    int high = bits >>> 16;
    return (short)
        ((bits & MAGNITUDE) > INFINITY ? high | QUIET : (bits + HALF_BELOW + (high & 1)) >>> 16);
  }

  /** Exact. */
  static void unpack(long x, long out, int n) {
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
      ((IntVector)
              ShortVector.fromMemorySegment(S, ALL, x + 2L * i, LE)
                  .convertShape(ZERO_EXTEND_S2I, I, 0))
          .lanewise(LSHL, 16)
          .reinterpretAsFloats()
          .intoMemorySegment(ALL, out + 4L * i, LE);
    }
    for (; i < n; i++) {
      Memory.set(out + 4L * i, unpack(x + 2L * i));
    }
  }

  /** {@code y += x}. */
  static void add(long x, long y, int n) {
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
      ((IntVector)
              ShortVector.fromMemorySegment(S, ALL, x + 2L * i, LE)
                  .convertShape(ZERO_EXTEND_S2I, I, 0))
          .lanewise(LSHL, 16)
          .reinterpretAsFloats()
          .add(FloatVector.fromMemorySegment(F, ALL, y + 4L * i, LE))
          .intoMemorySegment(ALL, y + 4L * i, LE);
    }
    for (; i < n; i++) {
      Memory.set(y + 4L * i, Memory.get(y + 4L * i) + unpack(x + 2L * i));
    }
  }

  private static float unpack(long address) {
    return Float.intBitsToFloat(ALL.get(SHORT, address) << 16);
  }
}
