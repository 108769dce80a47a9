package io.infinilora.bench;

import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;

/**
 * Writes PEFT adapters of random numbers for a dense model of the llama family, every projection in
 * bfloat16, so that benchmarks can have adapters of any rank and number.
 */
final class RandomAdapter {
  private static final Map<LoraTarget, String> MODULES =
      Map.of(
          LoraTarget.Q, "self_attn.q_proj",
          LoraTarget.K, "self_attn.k_proj",
          LoraTarget.V, "self_attn.v_proj",
          LoraTarget.O, "self_attn.o_proj",
          LoraTarget.GATE, "mlp.gate_proj",
          LoraTarget.UP, "mlp.up_proj",
          LoraTarget.DOWN, "mlp.down_proj");

  /** Small enough that the model's text stays text. */
  private static final float SPREAD = 0.01f;

  private RandomAdapter() {}

  /** Writes one adapter into a new directory. */
  static void write(Path directory, ModelSpec spec, int rank, long seed) throws IOException {
    Files.createDirectories(directory);
    Files.writeString(
        directory.resolve("adapter_config.json"),
        """
        {"peft_type": "LORA", "r": %d, "lora_alpha": %d, "bias": "none", "target_modules":
         ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}
        """
            .formatted(rank, rank));
    Map<String, long[]> shapes = new LinkedHashMap<>();
    for (int layer = 0; layer < spec.layers(); layer++) {
      for (LoraTarget target : LoraTarget.values()) {
        String name = "base_model.model.model.layers.%d.%s".formatted(layer, MODULES.get(target));
        shapes.put(name + ".lora_A.weight", new long[] {rank, spec.inWidth(target.site())});
        shapes.put(name + ".lora_B.weight", new long[] {spec.outWidth(target), rank});
      }
    }
    try (FileChannel file =
        FileChannel.open(
            directory.resolve("adapter_model.safetensors"),
            StandardOpenOption.CREATE,
            StandardOpenOption.TRUNCATE_EXISTING,
            StandardOpenOption.WRITE)) {
      write(file, shapes, new Random(seed));
    }
  }

  private static void write(FileChannel file, Map<String, long[]> shapes, Random random)
      throws IOException {
    StringBuilder header = new StringBuilder("{");
    long at = 0;
    for (Map.Entry<String, long[]> entry : shapes.entrySet()) {
      long[] shape = entry.getValue();
      long end = at + 2 * shape[0] * shape[1];
      header
          .append(header.length() == 1 ? "" : ",")
          .append(
              "\"%s\":{\"dtype\":\"BF16\",\"shape\":[%d,%d],\"data_offsets\":[%d,%d]}"
                  .formatted(entry.getKey(), shape[0], shape[1], at, end));
      at = end;
    }
    header.append('}');
    // Readers want the tensors aligned; the format lets a header end in spaces.
    header.append(" ".repeat(-header.length() & 7));
    byte[] json = header.toString().getBytes(StandardCharsets.UTF_8);
    OutputStream out = Channels.newOutputStream(file);
    out.write(
        ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(0, json.length).array());
    out.write(json);
    for (long[] shape : shapes.values()) {
      ByteBuffer values =
          ByteBuffer.allocate((int) (2 * shape[0] * shape[1])).order(ByteOrder.LITTLE_ENDIAN);
      while (values.hasRemaining()) {
        float value = (float) random.nextGaussian() * SPREAD;
        values.putShort((short) (Float.floatToRawIntBits(value) >>> 16));
      }
      out.write(values.array());
    }
  }
}
