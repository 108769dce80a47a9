package io.infinilora.weights;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Writes GGUF files, version 3. Not thread-safe. */
final class GgufWriter {

  private static final int VERSION = 3;

  private final Map<String, byte[]> pairs = new LinkedHashMap<>();
  private final int alignment;

  /**
   * A file without metadata.
   *
   * @param alignment of the tensors; other than 32 the metadata must say so
   */
  GgufWriter(int alignment) {
    this.alignment = alignment;
  }

  /** Adds a pair whose type and value are given as they lie in another file. */
  void copy(String key, MemorySegment typeAndValue) {
    pairs.put(key, typeAndValue.toArray(ValueLayout.JAVA_BYTE));
  }

  /** Adds an integer, or replaces it. */
  void uint32(String key, int value) {
    pairs.put(key, words(8).putInt(GgufValueType.UINT32.id()).putInt(value).array());
  }

  /**
   * Writes a new file.
   *
   * @throws IOException if it is there already or cannot be written
   */
  void write(Path file, List<NewTensor> tensors) throws IOException {
    try (FileChannel channel =
        FileChannel.open(file, StandardOpenOption.WRITE, StandardOpenOption.CREATE_NEW)) {
      write(channel, header(tensors));
      for (NewTensor tensor : tensors) {
        tensor.write(channel);
        write(channel, new byte[padding(tensor.bytes())]);
      }
    }
  }

  private byte[] header(List<NewTensor> tensors) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    out.writeBytes(
        words(24)
            .putInt(GgufFile.MAGIC)
            .putInt(VERSION)
            .putLong(tensors.size())
            .putLong(pairs.size())
            .array());
    pairs.forEach(
        (key, value) -> {
          out.writeBytes(text(key));
          out.writeBytes(value);
        });
    long offset = 0;
    for (NewTensor tensor : tensors) {
      long[] shape = tensor.shape();
      out.writeBytes(text(tensor.name()));
      ByteBuffer fields = words(16 + 8 * shape.length).putInt(shape.length);
      for (int i = shape.length - 1; i >= 0; i--) { // the file has the innermost first
        fields.putLong(shape[i]);
      }
      fields.putInt(GgufTensorTypes.idOf(tensor.dtype())).putLong(offset);
      out.writeBytes(fields.array());
      offset += tensor.bytes() + padding(tensor.bytes());
    }
    out.writeBytes(new byte[padding(out.size())]);
    return out.toByteArray();
  }

  private int padding(long bytes) {
    return (int) ((alignment - bytes % alignment) % alignment);
  }

  private static byte[] text(String value) {
    byte[] text = value.getBytes(StandardCharsets.UTF_8);
    return words(8 + text.length).putLong(text.length).put(text).array();
  }

  private static ByteBuffer words(int bytes) {
    return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
  }

  private static void write(FileChannel channel, byte[] bytes) throws IOException {
    ByteBuffer buffer = ByteBuffer.wrap(bytes);
    while (buffer.hasRemaining()) {
      channel.write(buffer);
    }
  }
}
