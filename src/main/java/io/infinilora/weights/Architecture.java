package io.infinilora.weights;

import io.infinilora.core.ModelSpec;
import java.util.Optional;

/**
 * How the files of one model architecture are to be read: which configuration fields describe it
 * and what its tensors are called. Adding an architecture is implementing this and naming it in
 * {@link Architectures}.
 */
interface Architecture {

  /** Hugging Face {@code model_type}. */
  String modelType();

  /** {@code general.architecture} of its GGUF files, if it has one of its own. */
  Optional<String> ggufName();

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

  /** Tensor names in safetensors files. */
  TensorNames hfNames();

  /** Tensor names in GGUF files. */
  TensorNames ggufNames();

  /** Whether GGUF files store the rows of q and k with the rotation's pairs as neighbours. */
  boolean ggufPairsRows();
}
