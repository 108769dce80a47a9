package io.infinilora.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/**
 * Writes a llama model of random weights in bf16, with the shapes of Llama-3.1-8B but for the
 * number of layers: a file to measure loading with.
 */
final class RandomModelFile {
  private static final int HIDDEN = 4096;
  private static final int INTERMEDIATE = 14336;
  private static final int HEADS = 32;
  private static final int KV_HEADS = 8;
  private static final int VOCAB = 128256;
  private static final int BLOCK_BYTES = 16 << 20;

  private final ObjectMapper json = new ObjectMapper();
  private final ObjectNode header = json.createObjectNode();
  private final int layers;
  private final int hidden;
  private final int intermediate;
  private final int vocab;
  private long bytes;

  private RandomModelFile(int layers, int part) {
    this.layers = layers;
    hidden = HIDDEN / part;
    intermediate = INTERMEDIATE / part;
    vocab = VOCAB / part;
  }

  /**
   * Writes {@code model.safetensors} and then {@code config.json} to a directory without them, made
   * if there is none.
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
    writeTensors(directory.resolve("model.safetensors"));
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
    ObjectNode entry = header.putObject(name);
    entry.put("dtype", "BF16");
    IntStream.of(shape).forEach(entry.putArray("shape")::add);
    long size = IntStream.of(shape).asLongStream().reduce(Short.BYTES, Math::multiplyExact);
    entry.putArray("data_offsets").add(bytes).add(bytes + size);
    bytes += size;
  }

  private void writeTensors(Path path) throws IOException {
    byte[] text = header.toString().getBytes(StandardCharsets.UTF_8);
    ByteBuffer head = ByteBuffer.allocate((8 + text.length + 63) / 64 * 64);
    head.order(ByteOrder.LITTLE_ENDIAN).putLong(head.capacity() - 8).put(text);
    while (head.hasRemaining()) {
      head.put((byte) ' ');
    }
    ByteBuffer block = ByteBuffer.allocateDirect(BLOCK_BYTES);
    SplittableRandom random = new SplittableRandom(1);
    while (block.hasRemaining()) {
      block.putShort((short) (0x3C00 | random.nextInt(0x80))); // Numbers about 0.01.
    }
    try (FileChannel file =
        FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
      head.flip();
      while (head.hasRemaining()) {
        file.write(head);
      }
      for (long left = bytes; left > 0; ) {
        block.clear().limit((int) Math.min(left, BLOCK_BYTES));
        left -= file.write(block);
      }
    }
  }
}
