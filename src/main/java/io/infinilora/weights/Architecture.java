package io.infinilora.weights;

import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import java.util.Map;
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

  /** What precedes the module names of a layer, {@code %d} standing for the layer. */
  String layerPrefix();

  /** The linear modules of a layer that adapters can target, by their names within it. */
  Map<String, LoraTarget> loraModules();
}
