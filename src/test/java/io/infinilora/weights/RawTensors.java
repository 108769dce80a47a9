package io.infinilora.weights;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.infinilora.core.DType;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * The bf16 tensors of a safetensors file by name and index, read apart from the code under test.
 */
final class RawTensors {

  private final ByteBuffer file;
  private final JsonNode header;
  private final int data;

  RawTensors(Path path) {
    try {
      file = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
      int length = (int) file.getLong(0);
      data = 8 + length;
      header = new ObjectMapper().readTree(file.array(), 8, length);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** One element of a tensor with as many dimensions as there are indices. */
  float at(String name, int... index) {
    JsonNode tensor = header.get(name);
    int flat = 0;
    for (int i = 0; i < index.length; i++) {
      flat = flat * tensor.get("shape").get(i).intValue() + index[i];
    }
    int at = data + tensor.get("data_offsets").get(0).intValue() + 2 * flat;
    return Float.intBitsToFloat(file.getShort(at) << 16);
  }

  /** Element (i, j) as the contract of {@link WeightMatrix} defines it. */
  static float element(WeightMatrix matrix, int i, int j) {
    return element(matrix.tensor(), matrix.element(i) + j * matrix.colStride());
  }

  /** An element of a plain tensor, counted through. */
  static float element(TensorView tensor, long i) {
    MemorySegment bytes = tensor.data();
    if (tensor.dtype() == DType.BF16) {
      return Float.intBitsToFloat(bytes.getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, i) << 16);
    }
    if (tensor.dtype() == DType.F32) {
      return bytes.getAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i);
    }
    throw new AssertionError(tensor);
  }
}
