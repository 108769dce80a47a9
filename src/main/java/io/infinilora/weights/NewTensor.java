package io.infinilora.weights;

import io.infinilora.core.DType;
import io.infinilora.core.TensorView;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.WritableByteChannel;
import java.util.Collections;
import java.util.List;

/**
 * A tensor to be written to a file.
 *
 * @param name its name there
 * @param dtype element type
 * @param shape sizes, outermost first
 * @param parts its bytes, one part after the other; the same memory may occur more than once
 */
record NewTensor(String name, DType dtype, long[] shape, List<MemorySegment> parts) {

  private static final long CHUNK_BYTES = 64L << 20;

  /** A tensor under another name, else as it is. */
  static NewTensor of(String name, TensorView tensor) {
    return new NewTensor(name, tensor.dtype(), tensor.shape(), List.of(tensor.data()));
  }

  /** {@code count} copies of a tensor, along a new outermost dimension. */
  static NewTensor repeated(String name, TensorView tensor, int count) {
    long[] shape = new long[tensor.shape().length + 1];
    shape[0] = count;
    System.arraycopy(tensor.shape(), 0, shape, 1, shape.length - 1);
    return new NewTensor(name, tensor.dtype(), shape, Collections.nCopies(count, tensor.data()));
  }

  long bytes() {
    return parts.stream().mapToLong(MemorySegment::byteSize).sum();
  }

  /** Writes the bytes without bringing more than a window of them into view. */
  void write(WritableByteChannel channel) throws IOException {
    for (MemorySegment part : parts) {
      for (long at = 0; at < part.byteSize(); at += CHUNK_BYTES) {
        long length = Math.min(CHUNK_BYTES, part.byteSize() - at);
        ByteBuffer window = part.asSlice(at, length).asByteBuffer();
        while (window.hasRemaining()) {
          channel.write(window);
        }
      }
    }
  }
}
