package io.infinilora.weights;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;

/** Writes safetensors files of plain types. */
final class SafetensorsWriter {

  private static final int HEADER_ALIGNMENT = 8;

  private SafetensorsWriter() {}

  /**
   * Writes a new file.
   *
   * @throws IOException if it is there already or cannot be written
   */
  static void write(Path file, List<NewTensor> tensors) throws IOException {
    // Wide elements first: then every tensor is aligned for its type, as readers ask for.
    List<NewTensor> ordered =
        tensors.stream().sorted(Comparator.comparing(t -> -t.dtype().blockBytes())).toList();
    try (FileChannel channel =
        FileChannel.open(file, StandardOpenOption.WRITE, StandardOpenOption.CREATE_NEW)) {
      ByteBuffer header = header(ordered);
      while (header.hasRemaining()) {
        channel.write(header);
      }
      for (NewTensor tensor : ordered) {
        tensor.write(channel);
      }
    }
  }

  private static ByteBuffer header(List<NewTensor> tensors) {
    ObjectNode header = JsonFields.MAPPER.createObjectNode();
    header.putObject("__metadata__").put("format", "pt");
    long offset = 0;
    for (NewTensor tensor : tensors) {
      ObjectNode entry = header.putObject(tensor.name());
      entry.put("dtype", tensor.dtype().name());
      ArrayNode shape = entry.putArray("shape");
      Arrays.stream(tensor.shape()).forEach(shape::add);
      entry.putArray("data_offsets").add(offset).add(offset + tensor.bytes());
      offset += tensor.bytes();
    }
    byte[] json = header.toString().getBytes(StandardCharsets.UTF_8);
    int padded = (json.length + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    ByteBuffer bytes = ByteBuffer.allocate(8 + padded).order(ByteOrder.LITTLE_ENDIAN);
    bytes.putLong(padded).put(json);
    while (bytes.hasRemaining()) {
      bytes.put((byte) ' ');
    }
    return bytes.flip();
  }
}
