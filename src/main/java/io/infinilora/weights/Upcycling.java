package io.infinilora.weights;

import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;

/**
 * Makes a mixtral out of a dense llama: every expert is a copy of the dense MLP (sparse upcycling,
 * Komatsuzaki et al., arXiv 2212.05055, before its training). The chosen experts' weights sum to 1,
 * so the answers are those of the dense model, whatever the router does; it is random, so that rows
 * go to different experts.
 *
 * @param experts copies per layer
 * @param topK experts per token
 * @param seed of the routers
 */
public record Upcycling(int experts, int topK, long seed) {

  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final Set<String> DENSE = Set.of("llama", "mistral");

  /** Checks the numbers. */
  public Upcycling {
    SpecLimits limits =
        new SpecLimits(
            (field, fault) -> new InfiniLoraException(ErrorCode.BAD_CONFIG, field + " " + fault));
    limits.experts("experts", experts);
    limits.topK("top-k", topK, experts);
  }

  /**
   * Writes the mixtral. Tokenizer and chat template are kept. A GGUF file gives a GGUF file, whose
   * weights stay quantised as they are; a directory of safetensors gives such a directory.
   *
   * @param model what {@link Checkpoints#open} takes
   * @param out the file or directory to be made; must not exist
   * @throws InfiniLoraException UNSUPPORTED_MODEL if the model is not a dense llama or mistral,
   *     BAD_MODEL_FILE if it is not sound or {@code out} cannot be written
   */
  public void write(Path model, Path out) {
    ModelSpec spec = checked(model);
    if (Files.exists(out)) {
      throw new InfiniLoraException(ErrorCode.BAD_CONFIG, out + ": exists already");
    }
    try (Arena arena = Arena.ofConfined()) {
      if (Checkpoints.holdsSafetensors(model)) {
        new HfUpcycling(this, spec).write(model, out, arena);
      } else {
        new GgufUpcycling(this, spec).write(Checkpoints.gguf(model), out, arena);
      }
    } catch (FileAlreadyExistsException e) {
      throw new InfiniLoraException(ErrorCode.BAD_CONFIG, out + ": exists already", e);
    } catch (IOException e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_MODEL_FILE, out + ": cannot be written: " + e.getMessage(), e);
    }
  }

  private static ModelSpec checked(Path model) {
    try (Checkpoint checkpoint = Checkpoints.open(model)) {
      ModelSpec spec = checkpoint.spec();
      if (!DENSE.contains(spec.architecture()) || spec.attention().qkvBias()) {
        throw new InfiniLoraException(
            ErrorCode.UNSUPPORTED_MODEL,
            "%s: is a %s%s; only llama and mistral without biases become mixtral"
                .formatted(
                    model, spec.architecture(), spec.attention().qkvBias() ? " with biases" : ""));
      }
      return spec;
    }
  }

  /** All tensors of the mixtral. */
  List<NewTensor> tensors(
      TensorIndex source, ModelSpec spec, TensorLayout dense, TensorLayout routed, Arena arena) {
    List<NewTensor> result = new ArrayList<>();
    Set<String> replaced = new HashSet<>();
    Random random = new Random(seed);
    for (int layer = 0; layer < spec.layers(); layer++) {
      result.add(router(routed.place(Param.ROUTER).name(layer, 0), spec, random, arena));
      for (Param param : List.of(Param.GATE, Param.UP, Param.DOWN)) {
        String name = dense.place(param).name(layer, 0);
        replaced.add(name);
        result.addAll(copies(source.view(name), routed.place(param), layer));
      }
    }
    for (String name : source.names()) {
      if (!replaced.contains(name) && source.supported(name)) {
        result.add(NewTensor.of(name, source.view(name)));
      }
    }
    return result;
  }

  private List<NewTensor> copies(TensorView tensor, TensorPlace place, int layer) {
    Set<String> names = new HashSet<>();
    List<NewTensor> copies = new ArrayList<>();
    for (int expert = 0; expert < experts; expert++) {
      String name = place.name(layer, expert);
      if (names.add(name)) {
        copies.add(NewTensor.of(name, tensor));
      }
    }
    return copies.size() == experts
        ? copies
        : List.of(NewTensor.repeated(place.name(layer, 0), tensor, experts));
  }

  /** Small numbers: over normed rows they make logits of about 0.6 either way. */
  private NewTensor router(String name, ModelSpec spec, Random random, Arena arena) {
    long elements = (long) experts * spec.hidden();
    MemorySegment data = arena.allocate(elements * Float.BYTES, Float.BYTES);
    float bound = (float) (1 / Math.sqrt(spec.hidden()));
    for (long i = 0; i < elements; i++) {
      data.setAtIndex(FLOAT, i, (2 * random.nextFloat() - 1) * bound);
    }
    return new NewTensor(name, DType.F32, new long[] {experts, spec.hidden()}, List.of(data));
  }
}
