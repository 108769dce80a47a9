package io.infinilora.weights;

import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** The pairs of an adapter file by the names of their tensors. */
final class PeftNames {

  private final SafetensorsFile file;
  private final List<PeftTensorName> pairs = new ArrayList<>();

  /**
   * Reads all names.
   *
   * @throws InfiniLoraException BAD_ADAPTER naming file and tensor if one is no LoRA tensor, or a B
   *     without its A
   */
  PeftNames(SafetensorsFile file) {
    this.file = file;
    Optional<Boolean> raw = Optional.empty();
    for (String name : file.names()) {
      PeftTensorName parsed = parse(name);
      if (raw.isPresent() && raw.get() != parsed.raw()) {
        throw file.tensorFault(
            name, "differs from others in this file in that it has the adapter's name or lacks it");
      }
      raw = Optional.of(parsed.raw());
      if (parsed.isA()) {
        pairs.add(parsed);
      } else {
        requirePartner(parsed);
      }
    }
    if (pairs.isEmpty()) {
      throw file.fault("holds no LoRA tensors");
    }
  }

  private PeftTensorName parse(String name) {
    if (name.contains("lora_embedding_")) {
      throw file.tensorFault(name, "adapts an embedding, which is not supported");
    }
    PeftTensorName parsed =
        PeftTensorName.parse(name)
            .orElseThrow(() -> file.tensorFault(name, "is neither a lora_A nor a lora_B weight"));
    if (parsed.module().isEmpty()) {
      throw file.tensorFault(
          name, "does not begin with " + PeftTensorName.PREFIX + " and a module");
    }
    return parsed;
  }

  private void requirePartner(PeftTensorName parsed) {
    if (!file.names().contains(parsed.partner())) {
      throw file.tensorFault(parsed.name(), "has no partner " + parsed.partner());
    }
  }

  /** The name of the A of each pair, in the order of the file. */
  List<PeftTensorName> pairs() {
    return pairs;
  }

  /**
   * The A of a pair.
   *
   * @throws InfiniLoraException BAD_ADAPTER if its type is not supported
   */
  TensorView a(PeftTensorName pair) {
    return file.view(pair.name());
  }

  /**
   * The B of a pair.
   *
   * @throws InfiniLoraException BAD_ADAPTER if it is missing, or its type is not supported
   */
  TensorView b(PeftTensorName pair) {
    requirePartner(pair);
    return file.view(pair.partner());
  }
}
