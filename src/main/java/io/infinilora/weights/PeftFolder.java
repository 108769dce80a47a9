package io.infinilora.weights;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;

/** The two files of an adapter, each checked by itself. */
record PeftFolder(PeftConfig config, SafetensorsFile weights) {

  static final String CONFIG = "adapter_config.json";
  private static final String WEIGHTS = "adapter_model.safetensors";
  private static final String PICKLE = "adapter_model.bin";

  /**
   * Reads the configuration and maps the weights.
   *
   * @param arena owner of the mapping
   * @throws InfiniLoraException BAD_ADAPTER naming file and key or tensor
   */
  static PeftFolder open(Path directory, Arena arena) {
    PeftConfig config = PeftConfig.read(directory.resolve(CONFIG));
    Path weights = weightsFile(directory);
    if (!Files.exists(weights) && Files.exists(directory.resolve(PICKLE))) {
      throw new InfiniLoraException(
          ErrorCode.BAD_ADAPTER,
          directory.resolve(PICKLE)
              + ": pickled weights can run code and are not read; save them as "
              + WEIGHTS);
    }
    return new PeftFolder(config, SafetensorsFile.open(weights, ErrorCode.BAD_ADAPTER, arena));
  }

  /** Where an adapter's weights are. */
  static Path weightsFile(Path directory) {
    return directory.resolve(WEIGHTS);
  }

  /** The hash of the content. */
  String digest() {
    return AdapterDigest.of(config.fields().tree(), weights.file().bytes());
  }
}
