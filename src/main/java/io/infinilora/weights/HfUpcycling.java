package io.infinilora.weights;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.ModelSpec;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

/** {@link Upcycling} of directories with safetensors. */
final class HfUpcycling {

  private final Upcycling upcycling;
  private final ModelSpec spec;

  HfUpcycling(Upcycling upcycling, ModelSpec spec) {
    this.upcycling = upcycling;
    this.spec = spec;
  }

  void write(Path model, Path out, Arena arena) throws IOException {
    TensorIndex source = Checkpoints.safetensors(model, arena);
    ObjectNode config =
        JsonFields.read(model.resolve(Checkpoints.CONFIG), ErrorCode.BAD_MODEL_FILE).tree();
    Files.createDirectory(out);
    for (Path file : textFiles(model)) {
      Files.copy(file, out.resolve(file.getFileName()));
    }
    describe(config);
    Files.writeString(out.resolve(Checkpoints.CONFIG), config.toPrettyString() + "\n");
    SafetensorsWriter.write(
        out.resolve(Checkpoints.SINGLE),
        upcycling.tensors(source, spec, LlamaLayouts.HF, ExpertLayouts.HF_MIXTRAL, arena));
  }

  /** Everything beside the weights and their configuration, the tokenizer above all. */
  private static List<Path> textFiles(Path model) throws IOException {
    try (Stream<Path> files = Files.list(model)) {
      return files
          .filter(Files::isRegularFile)
          .filter(f -> isText(f.getFileName().toString()))
          .toList();
    }
  }

  private static boolean isText(String name) {
    return !name.equals(Checkpoints.CONFIG)
        && !name.endsWith(".safetensors.index.json")
        && Stream.of(".json", ".jinja", ".txt", ".model").anyMatch(name::endsWith);
  }

  /** Says outright what llama and mixtral leave out to mean different things. */
  private void describe(ObjectNode config) {
    config.putArray("architectures").add("MixtralForCausalLM");
    config.put("model_type", "mixtral");
    config.put("num_local_experts", upcycling.experts());
    config.put("num_experts_per_tok", upcycling.topK());
    config.put("num_key_value_heads", spec.attention().kvHeads());
    config.put("head_dim", spec.attention().headDim());
    config.put("max_position_embeddings", spec.maxPositions());
    config.put("rms_norm_eps", spec.normEps());
    config.put("tie_word_embeddings", spec.tiedEmbeddings());
    int window = spec.attention().windows().getFirst();
    if (window == 0) {
      config.putNull("sliding_window");
    } else {
      config.put("sliding_window", window);
    }
    if (!config.path("rope_parameters").has("rope_theta")) {
      config.put("rope_theta", spec.rope().theta());
    }
  }
}
