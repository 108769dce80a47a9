package io.infinilora.weights;

import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.TextAssets;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.util.function.Function;

/** A checkpoint whose parameters were all found at open. Immutable until it is closed. */
final class MappedCheckpoint implements Checkpoint {

  private final ModelSpec spec;
  private final TextAssets text;
  private final ParameterTable parameters;
  private final Function<String, InfiniLoraException> fault;
  private final String description;
  private final Arena arena;

  /**
   * Wraps what was read.
   *
   * @param fault makes an error that names the file
   * @param arena owner of the mappings, closed with the checkpoint
   */
  MappedCheckpoint(
      ModelSpec spec,
      TextAssets text,
      ParameterTable parameters,
      Function<String, InfiniLoraException> fault,
      String description,
      Arena arena) {
    this.spec = spec;
    this.text = text;
    this.parameters = parameters;
    this.fault = fault;
    this.description = description;
    this.arena = arena;
  }

  @Override
  public ModelSpec spec() {
    return spec;
  }

  @Override
  public TextAssets text() {
    return text;
  }

  @Override
  public WeightMatrix matrix(Param param, int layer) {
    WeightMatrix matrix = parameters.matrix(param, layer);
    if (matrix == null) {
      throw fault.apply("has no matrix " + param + " in layer " + layer);
    }
    return matrix;
  }

  @Override
  public TensorView vector(Param param, int layer) {
    TensorView vector = parameters.vector(param, layer);
    if (vector == null) {
      throw fault.apply("has no vector " + param + " in layer " + layer);
    }
    return vector;
  }

  @Override
  public WeightMatrix matrix(Param param, int layer, int expert) {
    WeightMatrix matrix = parameters.matrix(param, layer, expert);
    if (matrix == null) {
      throw fault.apply("has no matrix " + param + " of expert " + expert + " in layer " + layer);
    }
    return matrix;
  }

  @Override
  public TensorView vector(Param param, int layer, int expert) {
    TensorView vector = parameters.vector(param, layer, expert);
    if (vector == null) {
      throw fault.apply("has no vector " + param + " of expert " + expert + " in layer " + layer);
    }
    return vector;
  }

  @Override
  public String describe() {
    return description;
  }

  /** Unmaps the files. Views must no longer be in use; closing again does nothing. */
  @Override
  public synchronized void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }
}
