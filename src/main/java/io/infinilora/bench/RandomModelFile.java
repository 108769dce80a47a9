package io.infinilora.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/**
 * Writes a llama model of random weights in bf16, with the shapes of Llama-3.1-8B but for the
 * number of layers: files to measure loading with, several as large models have them.
 */
final class RandomModelFile {
  private static final int HIDDEN = 4096;
  private static final int INTERMEDIATE = 14336;
  private static final int HEADS = 32;
  private static final int KV_HEADS = 8;
  private static final int VOCAB = 128256;
  private static final int BLOCK_BYTES = 16 << 20;

  /** As many as the largest matrix fits in; several threads write at the same time. */
  private static final long FILE_BYTES = 1L << 30;

  private final ObjectMapper json = new ObjectMapper();
  private final List<Part> parts = new ArrayList<>();
  private final int layers;
  private final int hidden;
  private final int intermediate;
  private final int vocab;
  private final long fileBytes;

  /** One file: its header and the bytes of its tensors. */
  private static final class Part {
    final ObjectNode header;
    long bytes;

    Part(ObjectNode header) {
      this.header = header;
    }
  }

  private RandomModelFile(int layers, int part) {
    this.layers = layers;
    fileBytes = FILE_BYTES / part / part;
    hidden = HIDDEN / part;
    intermediate = INTERMEDIATE / part;
    vocab = VOCAB / part;
  }

  /**
   * Writes safetensors with their index and then {@code config.json} to a directory without them,
   * made if there is none.
   */
  static void write(Path directory, int layers) throws IOException {
    write(directory, layers, 1);
  }

  /** The same with every side of a matrix divided by {@code part}. */
  static void write(Path directory, int layers, int part) throws IOException {
    new RandomModelFile(layers, part).write(directory);
  }

  private void write(Path directory) throws IOException {
    Files.createDirectories(directory);
    tensor("model.embed_tokens.weight", vocab, hidden);
    tensor("lm_head.weight", vocab, hidden);
    tensor("model.norm.weight", hidden);
    for (int i = 0; i < layers; i++) {
      String layer = "model.layers." + i;
      tensor(layer + ".input_layernorm.weight", hidden);
      tensor(layer + ".self_attn.q_proj.weight", hidden, hidden);
      tensor(layer + ".self_attn.k_proj.weight", hidden / HEADS * KV_HEADS, hidden);
      tensor(layer + ".self_attn.v_proj.weight", hidden / HEADS * KV_HEADS, hidden);
      tensor(layer + ".self_attn.o_proj.weight", hidden, hidden);
      tensor(layer + ".post_attention_layernorm.weight", hidden);
      tensor(layer + ".mlp.gate_proj.weight", intermediate, hidden);
      tensor(layer + ".mlp.up_proj.weight", intermediate, hidden);
      tensor(layer + ".mlp.down_proj.weight", hidden, intermediate);
    }
    writeFiles(directory);
    // Last, since whoever finds it takes the model as it is.
    Files.writeString(directory.resolve("config.json"), config());
  }

  private String config() {
    return json.createObjectNode()
        .put("model_type", "llama")
        .put("hidden_size", hidden)
        .put("intermediate_size", intermediate)
        .put("num_attention_heads", HEADS)
        .put("num_key_value_heads", KV_HEADS)
        .put("num_hidden_layers", layers)
        .put("vocab_size", vocab)
        .put("max_position_embeddings", 8192)
        .put("rms_norm_eps", 1e-5)
        .put("rope_theta", 500000.0)
        .put("hidden_act", "silu")
        .put("bos_token_id", 0)
        .put("eos_token_id", 1)
        .put("tie_word_embeddings", false)
        .toString();
  }

  private void tensor(String name, int... shape) {
    long size = IntStream.of(shape).asLongStream().reduce(Short.BYTES, Math::multiplyExact);
    if (parts.isEmpty() || parts.getLast().bytes + size > fileBytes) {
      parts.add(new Part(json.createObjectNode()));
    }
    Part part = parts.getLast();
    ObjectNode entry = part.header.putObject(name);
    entry.put("dtype", "BF16");
    IntStream.of(shape).forEach(entry.putArray("shape")::add);
    entry.putArray("data_offsets").add(part.bytes).add(part.bytes + size);
    part.bytes += size;
  }

  private void writeFiles(Path directory) throws IOException {
    ByteBuffer block = ByteBuffer.allocateDirect(BLOCK_BYTES);
    SplittableRandom random = new SplittableRandom(1);
    while (block.hasRemaining()) {
      block.putShort((short) (0x3C00 | random.nextInt(0x80))); // Numbers about 0.01.
    }
    ObjectNode index = json.createObjectNode();
    ObjectNode places = index.putObject("weight_map");
    IntStream.range(0, parts.size())
        .forEach(
            i ->
                parts
                    .get(i)
                    .header
                    .fieldNames()
                    .forEachRemaining(name -> places.put(name, file(i))));
    IntStream.range(0, parts.size())
        .parallel()
        .forEach(i -> write(parts.get(i), directory.resolve(file(i)), block.duplicate()));
    Files.writeString(directory.resolve("model.safetensors.index.json"), index.toString());
  }

  private String file(int i) {
    return "model-%05d-of-%05d.safetensors".formatted(i + 1, parts.size());
  }

  private static void write(Part part, Path path, ByteBuffer block) {
    byte[] text = part.header.toString().getBytes(StandardCharsets.UTF_8);
    ByteBuffer head = ByteBuffer.allocate((8 + text.length + 63) / 64 * 64);
    head.order(ByteOrder.LITTLE_ENDIAN).putLong(head.capacity() - 8).put(text);
    while (head.hasRemaining()) {
      head.put((byte) ' ');
    }
    try (FileChannel file =
        FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
      head.flip();
      while (head.hasRemaining()) {
        file.write(head);
      }
      for (long left = part.bytes; left > 0; ) {
        block.clear().limit((int) Math.min(left, BLOCK_BYTES));
        left -= file.write(block);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
