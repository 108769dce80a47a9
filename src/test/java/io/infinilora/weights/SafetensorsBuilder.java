package io.infinilora.weights;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.TensorView;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;

/** Writes sound safetensors files for tests; {@link #file} writes unsound ones from their parts. */
final class SafetensorsBuilder {

  private record Tensor(String dtype, long[] shape, byte[] data) {}

  private final Map<String, Tensor> tensors = new LinkedHashMap<>();

  /** The bf16 tensors of a sound file. */
  static SafetensorsBuilder of(Path file) {
    SafetensorsBuilder builder = new SafetensorsBuilder();
    try (Arena arena = Arena.ofConfined()) {
      SafetensorsFile source = SafetensorsFile.open(file, ErrorCode.BAD_MODEL_FILE, arena);
      for (String name : source.names()) {
        TensorView view = source.view(name);
        builder.raw(name, "BF16", view.data().toArray(ValueLayout.JAVA_BYTE), view.shape());
      }
    }
    return builder;
  }

  /** A tensor given as bytes, in the place of one with the same name if there is one. */
  SafetensorsBuilder raw(String name, String dtype, byte[] data, long... shape) {
    tensors.put(name, new Tensor(dtype, shape, data));
    return this;
  }

  /** An F32 tensor, all elements alike. */
  SafetensorsBuilder filled(String name, float value, long... shape) {
    int elements = Math.toIntExact(Arrays.stream(shape).reduce(1, (a, b) -> a * b));
    ByteBuffer data = ByteBuffer.allocate(4 * elements).order(ByteOrder.LITTLE_ENDIAN);
    while (data.hasRemaining()) {
      data.putFloat(value);
    }
    return raw(name, "F32", data.array(), shape);
  }

  SafetensorsBuilder remove(String name) {
    tensors.remove(name);
    return this;
  }

  /** Gives a tensor another name. */
  SafetensorsBuilder rename(String name, String other) {
    tensors.put(other, tensors.remove(name));
    return this;
  }

  byte[] build() {
    ByteArrayOutputStream data = new ByteArrayOutputStream();
    String header =
        tensors.entrySet().stream()
            .map(
                e -> {
                  int begin = data.size();
                  data.writeBytes(e.getValue().data());
                  return "\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%d,%d]}"
                      .formatted(
                          e.getKey(),
                          e.getValue().dtype(),
                          Arrays.toString(e.getValue().shape()),
                          begin,
                          data.size());
                })
            .collect(Collectors.joining(",", "{", "}"));
    return file(header, data.toByteArray());
  }

  Path write(Path file) {
    try {
      return Files.write(file, build());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** A file with this header, padded to whole words, and this data. */
  static byte[] file(String header, byte[] data) {
    StringBuilder padded = new StringBuilder(header);
    while (padded.toString().getBytes(StandardCharsets.UTF_8).length % 8 != 0) {
      padded.append(' ');
    }
    byte[] text = padded.toString().getBytes(StandardCharsets.UTF_8);
    return GgufBuilder.join(GgufBuilder.int64(text.length), text, data);
  }
}
