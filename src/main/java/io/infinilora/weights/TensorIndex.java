package io.infinilora.weights;

import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import java.util.List;
import java.util.Set;

/** The tensors of a model by their names in its file or files. */
interface TensorIndex {

  /** All names. */
  Set<String> names();

  /**
   * A view of one tensor.
   *
   * @param name one of {@link #names}
   * @throws InfiniLoraException naming file and tensor if its element type is not supported
   */
  TensorView view(String name);

  /**
   * A view of one tensor of bytes, {@code U8}, which are no numbers by themselves.
   *
   * @param name one of {@link #names}
   * @throws InfiniLoraException naming file and tensor if its element type is another
   */
  TensorView bytes(String name);

  /** Whether the element type of a tensor is one that {@link #view} or {@link #bytes} supports. */
  boolean supported(String name);

  /** The files that hold the tensors. */
  List<MappedFile> files();

  /** An error that names the file. */
  InfiniLoraException fault(String message);
}
