package io.infinilora.backend.cpu;

import io.infinilora.core.DType;

/**
 * How a {@link PackedMatrix} holds its weights. A panel is two vectors of lanes, each lane an
 * output row; its data is a sequence of blocks of {@link #columns} k, and in a block each vector's
 * scales, then its words: 32 bits per lane that hold consecutive k from the low bits up.
 */
enum PackedFormat {
  /** Words are floats. */
  F32(1, 0, 1),
  /** Words are two bfloat16. */
  BF16(2, 0, 1),
  /** Words are two finite float16. */
  F16(2, 0, 1),
  /**
   * Words are eight 4-bit quants, rotated so that the first is at the top of a mantissa; the scale
   * word is float16 scale (low half) and minimum.
   */
  Q4_HALF(32, 1, 4),
  /** The same with float32 scale and minimum, for scales that are products. */
  Q4_FLOAT(32, 2, 4),
  /**
   * Words are four bytes u, rotated likewise; one float32 scale S: the weight is {@code S (u / 256
   * - 0.5)}.
   */
  Q8_32(32, 1, 8),
  /** The same with a scale per 16 columns. */
  Q8_16(16, 1, 4),
  /**
   * Words are four such bytes; float32 S and offset M: the weight is {@code S (1 + u / 256) + M}.
   */
  Q8_MIN(32, 2, 8),
  /** Words are eight 4-bit floats (E2M1); one float32 scale, a power of two. */
  E2M1(32, 1, 4);

  private final int columns;
  private final int scaleWords;
  private final int words;

  PackedFormat(int columns, int scaleWords, int words) {
    this.columns = columns;
    this.scaleWords = scaleWords;
    this.words = words;
  }

  /** The format for weights of a type. */
  static PackedFormat of(DType dtype) {
    return switch (dtype) {
      case F32 -> F32;
      case BF16 -> BF16;
      case F16 -> F16;
      case Q4_0, Q4_1 -> Q4_HALF;
      case Q4_K -> Q4_FLOAT;
      case Q8_0 -> Q8_32;
      case Q6_K -> Q8_16;
      case Q5_K -> Q8_MIN;
      case MXFP4, FP4 -> E2M1;
      case U8 -> throw new IllegalArgumentException(dtype + " holds no weights");
    };
  }

  /** Bits of a quant; 0 for plain formats. */
  int quantBits() {
    return scaleWords == 0 ? 0 : 32 * words / columns;
  }

  /** Columns of a block. */
  int columns() {
    return columns;
  }

  /** Words of scales of a block, per lane. */
  int scaleWords() {
    return scaleWords;
  }

  /** Words of weights of a block, per lane. */
  int words() {
    return words;
  }

  /** Bytes of a panel's block. */
  long blockBytes() {
    return (scaleWords + words) * TileKernels.PANEL_BYTES;
  }
}
