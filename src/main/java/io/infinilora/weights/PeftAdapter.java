package io.infinilora.weights;

import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A LoRA adapter in PEFT's format: {@code adapter_config.json} and {@code
 * adapter_model.safetensors}, memory-mapped. Everything is checked when it is {@linkplain #open
 * opened}, down to the last value; what an adapter says is either computed as PEFT would or
 * refused. Immutable and thread-safe; the factors are valid until {@link #close}.
 */
public final class PeftAdapter implements AutoCloseable {

  /** Highest rank that is accepted. */
  public static final int MAX_RANK = 512;

  private final Map<AdaptedModule, LoraFactors> factors;
  private final List<AdaptedModule> modules;

  /** Null if the values were not read. */
  private final String digest;

  private final long bytes;
  private final Arena arena;

  private PeftAdapter(
      Map<AdaptedModule, LoraFactors> factors, String digest, long bytes, Arena arena) {
    this.factors = factors;
    this.modules = factors.keySet().stream().sorted().toList();
    this.digest = digest;
    this.bytes = bytes;
    this.arena = arena;
  }

  /**
   * Opens an adapter for a model.
   *
   * @param directory the folder with both files, which must not change until {@link #close}
   * @param spec the model that it is to change
   * @throws InfiniLoraException BAD_ADAPTER naming file and key or tensor if it is malformed, of an
   *     unsupported kind, or made for another model
   */
  public static PeftAdapter open(Path directory, ModelSpec spec) {
    return open(directory, spec, true);
  }

  /**
   * Opens an adapter whose content was checked by {@link #open} before and has not changed since.
   * Reads the configuration and the header of the weights, and checks them and all shapes, but
   * reads no value, so that it costs little however large the adapter is.
   *
   * @throws InfiniLoraException likewise
   */
  public static PeftAdapter reopen(Path directory, ModelSpec spec) {
    return open(directory, spec, false);
  }

  /** The file of an adapter's weights, whether or not it exists. */
  public static Path weightsFile(Path directory) {
    return PeftFolder.weightsFile(directory);
  }

  private static PeftAdapter open(Path directory, ModelSpec spec, boolean values) {
    AdapterLayout layout =
        AdapterLayouts.of(spec)
            .orElseThrow(
                () ->
                    new InfiniLoraException(
                        ErrorCode.BAD_ADAPTER,
                        directory + ": no adapters for architecture " + spec.architecture()));
    Arena arena = Arena.ofShared();
    try {
      PeftFolder files = PeftFolder.open(directory, arena);
      Map<AdaptedModule, LoraFactors> factors =
          new PeftTensors(files.weights(), files.config(), spec, layout, values).factors();
      long bytes = files.weights().file().size();
      return new PeftAdapter(factors, values ? files.digest() : null, bytes, arena);
    } catch (RuntimeException | Error e) {
      arena.close();
      throw e;
    }
  }

  /**
   * The identity of this content under a public name.
   *
   * @throws IllegalStateException if the adapter was {@linkplain #reopen reopened}: the content was
   *     not read
   */
  public AdapterId id(String name) {
    if (digest == null) {
      throw new IllegalStateException(name + " was reopened, so its content has no digest");
    }
    return new AdapterId(name, digest);
  }

  /** The low-rank pair of a module, if the adapter changes it. */
  public Optional<LoraFactors> factors(int layer, LoraTarget target) {
    return Optional.ofNullable(factors.get(new AdaptedModule(layer, target)));
  }

  /** The low-rank pair of an expert's module, if the adapter changes it. */
  public Optional<LoraFactors> factors(int layer, LoraTarget target, int expert) {
    return Optional.ofNullable(factors.get(new AdaptedModule(layer, target, expert)));
  }

  /** The pair of one of {@link #modules}. */
  LoraFactors factors(AdaptedModule module) {
    return factors.get(module);
  }

  /** The modules that the adapter changes, by layer, then target; at least one. */
  public List<AdaptedModule> modules() {
    return modules;
  }

  /** The highest rank of any module. */
  public int maxRank() {
    return factors.values().stream().mapToInt(f -> f.a().rows()).max().orElse(0);
  }

  /** Bytes of the weights file. */
  public long bytes() {
    return bytes;
  }

  /** Unmaps the file. Factors must no longer be in use; closing again does nothing. */
  @Override
  public synchronized void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }
}
