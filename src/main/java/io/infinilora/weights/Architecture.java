package io.infinilora.weights;

import io.infinilora.core.ModelSpec;
import java.util.Optional;
import java.util.Set;

/**
 * How the files of one model architecture are to be read: which configuration fields describe it
 * and what its tensors are called. Adding an architecture is implementing this and naming it in
 * {@link Architectures}.
 */
interface Architecture {

  /** Hugging Face {@code model_type}. */
  String modelType();

  /**
   * {@code general.architecture} of its GGUF files, if they can be told by it and by {@link
   * #routed}.
   */
  Optional<String> ggufName();

  /** Whether its layers have routed experts. */
  boolean routed();

  /** {@code quantization_config.quant_method} that its safetensors may have. */
  Optional<String> quantMethod();

  /**
   * The model that a {@code config.json} describes.
   *
   * @throws io.infinilora.core.InfiniLoraException BAD_MODEL_FILE naming the field
   */
  ModelSpec fromConfig(JsonFields config, SpecialTokens tokens);

  /**
   * The model that a GGUF file describes.
   *
   * @throws io.infinilora.core.InfiniLoraException BAD_MODEL_FILE naming the metadata key
   */
  ModelSpec fromGguf(GgufFile file);

  /**
   * Where safetensors files keep the parameters.
   *
   * @param config the {@code config.json} beside them
   * @param tensors names of the tensors, where the configuration does not tell
   */
  TensorLayout hfLayout(JsonFields config, Set<String> tensors);

  /** Where a GGUF file with these tensors keeps the parameters. */
  TensorLayout ggufLayout(Set<String> tensors);

  /** Whether GGUF files store the rows of q and k with the rotation's pairs as neighbours. */
  boolean ggufPairsRows();
}
