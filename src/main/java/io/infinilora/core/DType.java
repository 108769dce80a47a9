package io.infinilora.core;

/**
 * Element types of tensors in model files. Quantised types store blocks: {@link #blockElements}
 * consecutive elements of a row take {@link #blockBytes} bytes. The block layouts are those of
 * GGUF, except {@link #FP4}.
 */
public enum DType {
  F32(1, 4),
  F16(1, 2),
  BF16(1, 2),
  Q8_0(32, 34),
  Q4_0(32, 18),
  Q4_1(32, 20),
  Q4_K(256, 144),
  Q5_K(256, 176),
  Q6_K(256, 210),
  /** GGUF's MXFP4: a power of two (E8M0), then 32 E2M1 values; byte i holds elements i and i+16. */
  MXFP4(32, 17),
  /**
   * MXFP4 as Hugging Face checkpoints of gpt_oss store it: 32 E2M1 values, byte i holds elements 2i
   * (low half) and 2i+1; the powers of two are another tensor.
   */
  FP4(32, 16),
  /** Plain bytes: scales of {@link #FP4}, no weights by themselves. */
  U8(1, 1);

  private final int blockElements;
  private final int blockBytes;

  DType(int blockElements, int blockBytes) {
    this.blockElements = blockElements;
    this.blockBytes = blockBytes;
  }

  /** Elements in one block; 1 for plain types. */
  public int blockElements() {
    return blockElements;
  }

  /** Bytes of one block. */
  public int blockBytes() {
    return blockBytes;
  }

  /** True for types whose elements are stored in blocks with shared scales. */
  public boolean quantised() {
    return blockElements > 1;
  }

  /**
   * Bytes of {@code elements} consecutive elements.
   *
   * @throws IllegalArgumentException if they do not fill whole blocks
   */
  public long bytes(long elements) {
    if (elements % blockElements != 0) {
      throw new IllegalArgumentException(
          elements + " elements of " + this + " do not fill blocks of " + blockElements);
    }
    return Math.multiplyExact(elements / blockElements, (long) blockBytes);
  }
}
