package io.infinilora.backend.decode;

import io.infinilora.core.DType;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * One block of a quantised row, taken apart: element i is {@code scale[i / group] * q[i] + min[i /
 * group]} with unsigned q, or {@code scale[i / group] * E2M1[q[i]]} for the types of 4-bit floats.
 * The block layouts are those that GGUF defines (ggml's {@code ggml-common.h}) and that {@link
 * DType#FP4} describes; for the signed types the sign is moved into min. Scales and minima are
 * exact in float32. Not thread-safe.
 */
public final class QuantBlocks {
  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;

  /** The values of the 4-bit floats, by their bits: sign, two of exponent, one of mantissa. */
  private static final float[] E2M1 = {
    0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0f, -0.5f, -1, -1.5f, -2, -3, -4, -6
  };

  /** The E8M0 scale that is no number. */
  private static final int NAN_EXPONENT = 255;

  private final DType dtype;
  private final MemorySegment data;
  private final MemorySegment scales;

  private final int[] q;
  private final float[] scale;
  private final float[] min;

  /** Blocks of one tensor. */
  public QuantBlocks(WeightMatrix source) {
    dtype = source.dtype();
    data = source.tensor().data();
    scales = source.scales() == null ? null : source.scales().data();
    q = new int[dtype.blockElements()];
    scale = new float[dtype.blockElements() / group(dtype)];
    min = new float[scale.length];
  }

  /** Unsigned quants of the block last read; the array is used again for the next one. */
  public int[] quants() {
    return q;
  }

  /** Its scales, one per group; likewise. */
  public float[] scales() {
    return scale;
  }

  /** Its minima, one per group; likewise. */
  public float[] minima() {
    return min;
  }

  /** Value of a 4-bit float by its bits. */
  public static float e2m1(int bits) {
    return E2M1[bits];
  }

  /** Elements that share a scale. */
  public static int group(DType dtype) {
    return dtype == DType.Q6_K ? 16 : 32;
  }

  /** Value of an element of the block last read. */
  public float value(int i) {
    int g = i / (q.length / scale.length);
    return floats(dtype) ? scale[g] * E2M1[q[i]] : scale[g] * q[i] + min[g];
  }

  /** Whether quants are floats of 4 bits. */
  public static boolean floats(DType dtype) {
    return dtype == DType.MXFP4 || dtype == DType.FP4;
  }

  /** Takes a block of the tensor apart. */
  public void read(long block) {
    long offset = block * dtype.blockBytes();
    switch (dtype) {
      case Q4_0 -> {
        scale[0] = half(data, offset);
        min[0] = -8 * scale[0];
        nibbles(offset + 2, 0, 16);
      }
      case Q4_1 -> {
        scale[0] = half(data, offset);
        min[0] = half(data, offset + 2);
        nibbles(offset + 4, 0, 16);
      }
      case Q8_0 -> {
        scale[0] = half(data, offset);
        min[0] = -128 * scale[0];
        for (int i = 0; i < 32; i++) {
          q[i] = data.get(ValueLayout.JAVA_BYTE, offset + 2 + i) + 128;
        }
      }
      case Q4_K -> {
        scalesOfK(offset);
        for (int i = 0; i < 4; i++) {
          nibbles(offset + 16 + 32 * i, 64 * i, 32);
        }
      }
      case Q5_K -> {
        scalesOfK(offset);
        for (int i = 0; i < 4; i++) {
          nibbles(offset + 48 + 32 * i, 64 * i, 32);
        }
        for (int l = 0; l < 32; l++) {
          int high = u8(data, offset + 16 + l);
          for (int s = 0; s < 8; s++) {
            q[32 * s + l] |= ((high >> s) & 1) << 4;
          }
        }
      }
      case Q6_K -> readQ6K(offset);
      case MXFP4 -> {
        scale[0] = powerOfTwo(u8(data, offset));
        nibbles(offset + 1, 0, 16);
      }
      case FP4 -> {
        scale[0] = powerOfTwo(u8(scales, block));
        for (int i = 0; i < 16; i++) {
          int b = u8(data, offset + i);
          q[2 * i] = b & 15;
          q[2 * i + 1] = b >> 4;
        }
      }
      case F32, F16, BF16, U8 -> throw new IllegalStateException(dtype + " has no blocks");
    }
  }

  /** E8M0: {@code 2^(e - 127)}; the least is a subnormal float32. */
  private static float powerOfTwo(int exponent) {
    return exponent == NAN_EXPONENT ? Float.NaN : Math.scalb(1f, exponent - 127);
  }

  /** {@code n} bytes: their low nibbles go to {@code q[at ..]}, the high ones behind them. */
  private void nibbles(long offset, int at, int n) {
    for (int i = 0; i < n; i++) {
      int b = u8(data, offset + i);
      q[at + i] = b & 15;
      q[at + n + i] = b >> 4;
    }
  }

  /** Eight 6-bit scales and minima in 12 bytes, behind their common float16 factors. */
  private void scalesOfK(long offset) {
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

  private void readQ6K(long offset) {
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
