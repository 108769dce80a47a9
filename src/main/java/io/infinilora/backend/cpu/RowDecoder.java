package io.infinilora.backend.cpu;

import io.infinilora.core.DType;
import io.infinilora.core.TensorView;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Decodes rows of a tensor of any type to float32. Not thread-safe. */
final class RowDecoder {
  private final TensorView tensor;
  private final QuantBlocks blocks;

  RowDecoder(TensorView tensor) {
    this.tensor = tensor;
    this.blocks = tensor.dtype().quantised() ? new QuantBlocks(tensor.dtype()) : null;
  }

  /** Writes row {@code row} to {@code cols} floats at address {@code into}. */
  void decode(int row, long into) {
    MemorySegment data = tensor.data();
    long from = row * tensor.rowBytes();
    int cols = tensor.cols();
    switch (tensor.dtype()) {
      case F32 -> MemorySegment.copy(data, from, Memory.ALL, into, (long) cols * Float.BYTES);
      case F16 -> {
        for (int i = 0; i < cols; i++) {
          short bits = data.get(ValueLayout.JAVA_SHORT_UNALIGNED, from + 2L * i);
          Memory.set(into + 4L * i, Float.float16ToFloat(bits));
        }
      }
      case BF16 -> {
        for (int i = 0; i < cols; i++) {
          short bits = data.get(ValueLayout.JAVA_SHORT_UNALIGNED, from + 2L * i);
          Memory.set(into + 4L * i, Float.intBitsToFloat(bits << 16));
        }
      }
      default -> decodeBlocks(data, from, cols, into);
    }
  }

  private void decodeBlocks(MemorySegment data, long from, int cols, long into) {
    DType dtype = tensor.dtype();
    int group = QuantBlocks.group(dtype);
    long source = from;
    for (int at = 0; at < cols; at += dtype.blockElements()) {
      blocks.read(data, source);
      source += dtype.blockBytes();
      for (int i = 0; i < dtype.blockElements(); i++) {
        float value = blocks.scale[i / group] * blocks.q[i] + blocks.min[i / group];
        Memory.set(into + 4L * (at + i), value);
      }
    }
  }
}
