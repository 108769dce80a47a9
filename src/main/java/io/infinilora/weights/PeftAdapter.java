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
 * adapter_model.safetensors}, memory-mapped. Everything is checked when it is opened, down to the
 * last value; what an adapter says is either computed as PEFT would or refused. Immutable and
 * thread-safe; the factors are valid until {@link #close}.
 */
public final class PeftAdapter implements AutoCloseable {

  /** Highest rank that is accepted. */
  public static final int MAX_RANK = 512;

  private final Map<AdaptedModule, LoraFactors> factors;
  private final List<AdaptedModule> modules;
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
          new PeftTensors(files.weights(), files.config(), spec, layout).factors();
      long bytes = files.weights().file().size();
      return new PeftAdapter(factors, files.digest(), bytes, arena);
    } catch (RuntimeException | Error e) {
      arena.close();
      throw e;
    }
  }

  /** The identity of this content under a public name. */
  public AdapterId id(String name) {
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
