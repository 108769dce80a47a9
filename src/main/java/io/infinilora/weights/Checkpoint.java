package io.infinilora.weights;

import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.TextAssets;
import io.infinilora.core.WeightMatrix;

/**
 * An opened model: its description and its parameters as views of memory-mapped files. Views are
 * valid until {@link #close}. Thread-safe.
 */
public interface Checkpoint extends AutoCloseable {

  /** What the model is. */
  ModelSpec spec();

  /** What it brings for text. */
  TextAssets text();

  /**
   * A weight matrix with rows in Hugging Face order.
   *
   * @param layer decoder layer; ignored for parameters outside layers
   * @throws io.infinilora.core.InfiniLoraException BAD_MODEL_FILE naming file and tensor if it is
   *     missing or misshapen
   */
  WeightMatrix matrix(Param param, int layer);

  /**
   * A weight matrix of one expert, likewise.
   *
   * @param param {@code GATE}, {@code UP} or {@code DOWN}
   */
  WeightMatrix matrix(Param param, int layer, int expert);

  /** A parameter vector (norm scale, bias or sinks), likewise. */
  TensorView vector(Param param, int layer);

  /** A bias of one expert, likewise. */
  TensorView vector(Param param, int layer, int expert);

  /** One line for logs: format, files, bytes. */
  String describe();

  @Override
  void close();
}
