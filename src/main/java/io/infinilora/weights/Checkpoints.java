package io.infinilora.weights;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.stream.Stream;

/** Opens model files. */
public final class Checkpoints {

  static final String CONFIG = "config.json";
  private static final String GENERATION_CONFIG = "generation_config.json";
  static final String SINGLE = "model.safetensors";
  private static final String INDEX = "model.safetensors.index.json";

  private Checkpoints() {}

  /**
   * Opens a {@code .gguf} file, a directory with {@code config.json} and safetensors, or a
   * directory that holds exactly one {@code .gguf}. Weights are memory-mapped, never copied; the
   * header and the presence, type, place and shape of every tensor are checked here. The files must
   * not change until the checkpoint is closed.
   *
   * @throws InfiniLoraException BAD_MODEL_FILE naming the file and the tensor or field at fault
   */
  public static Checkpoint open(Path path) {
    // Shared, since every thread of a backend reads the weights.
    Arena arena = Arena.ofShared();
    try {
      return Files.isDirectory(path) ? openDirectory(path, arena) : openGguf(path, arena);
    } catch (RuntimeException | Error e) {
      arena.close();
      throw e;
    }
  }

  /**
   * A model of random weights, deterministic by seed, for a {@code config.json}: for benchmarks.
   *
   * @param config the file
   * @throws InfiniLoraException BAD_MODEL_FILE naming the file and the field at fault
   */
  public static Checkpoint random(Path config, long seed) {
    return RandomCheckpoint.open(config, seed);
  }

  private static Checkpoint openDirectory(Path directory, Arena arena) {
    return holdsSafetensors(directory)
        ? openSafetensors(directory, arena)
        : openGguf(gguf(directory), arena);
  }

  /** Whether a path is a directory with {@code config.json} and safetensors. */
  static boolean holdsSafetensors(Path path) {
    return Files.isRegularFile(path.resolve(CONFIG))
        && (Files.isRegularFile(path.resolve(SINGLE)) || Files.isRegularFile(path.resolve(INDEX)));
  }

  /** The path, or the only {@code .gguf} in it if it is a directory. */
  static Path gguf(Path path) {
    if (!Files.isDirectory(path)) {
      return path;
    }
    List<Path> ggufs = ggufsIn(path);
    if (ggufs.size() == 1) {
      return ggufs.getFirst();
    }
    throw bad(
        path,
        "holds %s; expected %s with %s or %s, or exactly one .gguf file (found %d)"
            .formatted(
                Files.isRegularFile(path.resolve(CONFIG))
                    ? CONFIG + " but no safetensors"
                    : "no " + CONFIG,
                CONFIG,
                SINGLE,
                INDEX,
                ggufs.size()));
  }

  /** The weights of a directory that {@link #holdsSafetensors}, in one file or several. */
  static TensorIndex safetensors(Path directory, Arena arena) {
    Path single = directory.resolve(SINGLE);
    return Files.isRegularFile(single)
        ? SafetensorsFile.open(single, ErrorCode.BAD_MODEL_FILE, arena)
        : ShardedSafetensors.open(directory.resolve(INDEX), arena);
  }

  private static List<Path> ggufsIn(Path directory) {
    try (Stream<Path> files = Files.list(directory)) {
      return files.filter(f -> f.getFileName().toString().endsWith(".gguf")).sorted().toList();
    } catch (IOException e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_MODEL_FILE, directory + ": cannot be listed: " + e.getMessage(), e);
    }
  }

  private static Checkpoint openSafetensors(Path directory, Arena arena) {
    TensorIndex tensors = safetensors(directory, arena);
    JsonFields config = JsonFields.read(directory.resolve(CONFIG), ErrorCode.BAD_MODEL_FILE);
    Path generationFile = directory.resolve(GENERATION_CONFIG);
    Optional<JsonFields> generation =
        Files.isRegularFile(generationFile)
            ? Optional.of(JsonFields.read(generationFile, ErrorCode.BAD_MODEL_FILE))
            : Optional.empty();
    Architecture architecture = architecture(config, directory.resolve(CONFIG));
    checkQuantisation(config, architecture);
    ModelSpec spec = architecture.fromConfig(config, SpecialTokens.from(config, generation));
    ParameterTable parameters =
        ParameterTable.load(
            spec, tensors, architecture.hfLayout(config, tensors.names()), false, arena);
    long bytes = tensors.files().stream().mapToLong(MappedFile::size).sum();
    String description =
        "%s, safetensors, %s, %d file(s), %s"
            .formatted(architecture.modelType(), directory, tensors.files().size(), mib(bytes));
    return new MappedCheckpoint(
        spec, HfText.read(directory), parameters, tensors::fault, description, arena);
  }

  /** The architecture that a {@code config.json} names. */
  static Architecture architecture(JsonFields config, Path file) {
    String type =
        config.text("model_type").orElseThrow(() -> config.bad("model_type", "is missing"));
    return Architectures.byModelType(type)
        .orElseThrow(() -> unsupported(file + ": model_type", type));
  }

  private static void checkQuantisation(JsonFields config, Architecture architecture) {
    Optional<JsonFields> quantisation = config.object("quantization_config");
    if (quantisation.isPresent()
        && (architecture.quantMethod().isEmpty()
            || !quantisation.get().text("quant_method").equals(architecture.quantMethod()))) {
      throw config.bad(
          "quantization_config",
          "is set: quantised safetensors are not supported for %s%s"
              .formatted(
                  architecture.modelType(),
                  architecture.quantMethod().map(m -> ", except " + m).orElse("")));
    }
  }

  private static Checkpoint openGguf(Path path, Arena arena) {
    GgufFile file = GgufFile.open(path, arena);
    GgufMetadata metadata = file.metadata();
    String key = "general.architecture";
    String name = metadata.text(key).orElseThrow(() -> metadata.bad(key, "is missing"));
    Architecture architecture =
        Architectures.byGgufName(name, metadata)
            .orElseThrow(() -> unsupported(path + ": " + key, name));
    ModelSpec spec = architecture.fromGguf(file);
    ParameterTable parameters =
        ParameterTable.load(
            spec, file, architecture.ggufLayout(file.names()), architecture.ggufPairsRows(), arena);
    String description =
        "%s, GGUF v%d, %s, %s"
            .formatted(spec.architecture(), file.version(), path, mib(file.file().size()));
    return new MappedCheckpoint(
        spec, GgufText.read(metadata), parameters, file::fault, description, arena);
  }

  private static InfiniLoraException unsupported(String place, String name) {
    return new InfiniLoraException(
        ErrorCode.UNSUPPORTED_MODEL,
        "%s is \"%s\"; supported are %s".formatted(place, name, Architectures.supported()));
  }

  private static String mib(long bytes) {
    return String.format(Locale.ROOT, "%.1f MiB", bytes / 1048576.0);
  }

  private static InfiniLoraException bad(Path path, String message) {
    return new InfiniLoraException(ErrorCode.BAD_MODEL_FILE, path + ": " + message);
  }
}
