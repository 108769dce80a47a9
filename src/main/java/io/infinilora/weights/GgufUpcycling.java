package io.infinilora.weights;

import io.infinilora.core.ModelSpec;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;

/** {@link Upcycling} of GGUF files. */
final class GgufUpcycling {

  private static final String PREFIX = "llama.";

  private final Upcycling upcycling;
  private final ModelSpec spec;

  GgufUpcycling(Upcycling upcycling, ModelSpec spec) {
    this.upcycling = upcycling;
    this.spec = spec;
  }

  void write(Path model, Path out, Arena arena) throws IOException {
    GgufFile source = GgufFile.open(model, arena);
    GgufWriter writer = new GgufWriter(source.alignment());
    source.metadata().forEachRaw(writer::copy);
    writer.uint32(PREFIX + "expert_count", upcycling.experts());
    writer.uint32(PREFIX + "expert_used_count", upcycling.topK());
    writer.write(
        out, upcycling.tensors(source, spec, LlamaLayouts.GGUF, ExpertLayouts.GGUF, arena));
  }
}
