package io.infinilora.backend.cpu;

import io.infinilora.core.DType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * One block of a quantised row, taken apart: element i is {@code scale[i / group] * q[i] + min[i /
 * group]} with unsigned q. The block layouts are those that GGUF defines (ggml's {@code
 * ggml-common.h}); for the signed types the sign is moved into min. Scales and minima are exact in
 * float32.
 */
final class QuantBlocks {
  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;

  private final DType dtype;

  /** Unsigned quants of the block last read. */
  final int[] q;

  /** Scale of each group. */
  final float[] scale;

  /** Minimum of each group. */
  final float[] min;

  QuantBlocks(DType dtype) {
    this.dtype = dtype;
    q = new int[dtype.blockElements()];
    scale = new float[dtype.blockElements() / group(dtype)];
    min = new float[scale.length];
  }

  /** Elements that share a scale. */
  static int group(DType dtype) {
    return dtype == DType.Q6_K ? 16 : 32;
  }

  /** Takes the block at {@code offset} of {@code data} apart. */
  void read(MemorySegment data, long offset) {
    switch (dtype) {
      case Q4_0 -> {
        scale[0] = half(data, offset);
        min[0] = -8 * scale[0];
        nibbles(data, offset + 2, 0, 16);
      }
      case Q4_1 -> {
        scale[0] = half(data, offset);
        min[0] = half(data, offset + 2);
        nibbles(data, offset + 4, 0, 16);
      }
      case Q8_0 -> {
        scale[0] = half(data, offset);
        min[0] = -128 * scale[0];
        for (int i = 0; i < 32; i++) {
          q[i] = data.get(ValueLayout.JAVA_BYTE, offset + 2 + i) + 128;
        }
      }
      case Q4_K -> {
        scalesOfK(data, offset);
        for (int i = 0; i < 4; i++) {
          nibbles(data, offset + 16 + 32 * i, 64 * i, 32);
        }
      }
      case Q5_K -> {
        scalesOfK(data, offset);
        for (int i = 0; i < 4; i++) {
          nibbles(data, offset + 48 + 32 * i, 64 * i, 32);
        }
        for (int l = 0; l < 32; l++) {
          int high = u8(data, offset + 16 + l);
          for (int s = 0; s < 8; s++) {
            q[32 * s + l] |= ((high >> s) & 1) << 4;
          }
        }
      }
      case Q6_K -> readQ6K(data, offset);
      case F32, F16, BF16 -> throw new IllegalStateException(dtype + " has no blocks");
    }
  }

  /** {@code n} bytes: their low nibbles go to {@code q[at ..]}, the high ones behind them. */
  private void nibbles(MemorySegment data, long offset, int at, int n) {
    for (int i = 0; i < n; i++) {
      int b = u8(data, offset + i);
      q[at + i] = b & 15;
      q[at + n + i] = b >> 4;
    }
  }

  /** Eight 6-bit scales and minima in 12 bytes, behind their common float16 factors. */
  private void scalesOfK(MemorySegment data, long offset) {
    float d = half(data, offset);
    float dmin = half(data, offset + 2);
    long s = offset + 4;
    for (int j = 0; j < 8; j++) {
      int sc;
      int m;
      if (j < 4) {
        sc = u8(data, s + j) & 63;
        m = u8(data, s + j + 4) & 63;
      } else {
        sc = (u8(data, s + j + 4) & 15) | (u8(data, s + j - 4) >> 6 << 4);
        m = (u8(data, s + j + 4) >> 4) | (u8(data, s + j) >> 6 << 4);
      }
      scale[j] = d * sc;
      min[j] = -dmin * m;
    }
  }

  private void readQ6K(MemorySegment data, long offset) {
    float d = half(data, offset + 208);
    for (int g = 0; g < 16; g++) {
      scale[g] = d * data.get(ValueLayout.JAVA_BYTE, offset + 192 + g);
      min[g] = -32 * scale[g];
    }
    for (int h = 0; h < 2; h++) {
      long low = offset + 64 * h;
      long high = offset + 128 + 32 * h;
      for (int l = 0; l < 32; l++) {
        int a = u8(data, low + l);
        int b = u8(data, low + 32 + l);
        int top = u8(data, high + l);
        int at = 128 * h + l;
        q[at] = (a & 15) | ((top & 3) << 4);
        q[at + 32] = (b & 15) | ((top >> 2 & 3) << 4);
        q[at + 64] = (a >> 4) | ((top >> 4 & 3) << 4);
        q[at + 96] = (b >> 4) | ((top >> 6) << 4);
      }
    }
  }

  private static int u8(MemorySegment data, long offset) {
    return data.get(ValueLayout.JAVA_BYTE, offset) & 0xFF;
  }

  private static float half(MemorySegment data, long offset) {
    return Float.float16ToFloat(data.get(SHORT, offset));
  }
}
