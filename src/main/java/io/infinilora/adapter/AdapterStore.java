package io.infinilora.adapter;

import io.infinilora.backend.Backend;
import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraWeights;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraSite;
import io.infinilora.core.ModelSpec;
import io.infinilora.weights.PeftAdapter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The adapters of one base model, packed on one device. Each has a slot, the number by which steps
 * refer to it. Thread-safe: registration may run beside steps, since slots are published only when
 * complete and never move.
 */
public final class AdapterStore implements AutoCloseable {
  private final ModelSpec spec;
  private final Backend backend;
  private final Map<String, AdapterInfo> byName = new LinkedHashMap<>();
  private volatile List<PackedAdapter> slots = List.of();

  /** An empty store for adapters of {@code spec}. */
  public AdapterStore(ModelSpec spec, Backend backend) {
    this.spec = spec;
    this.backend = backend;
  }

  /**
   * Reads, checks and packs an adapter. Nothing changes if that fails.
   *
   * @param name name that requests use
   * @param directory PEFT adapter
   * @throws InfiniLoraException BAD_ADAPTER naming the file and the key at fault, or the name if it
   *     is taken
   */
  public AdapterInfo register(String name, Path directory) {
    try (PeftAdapter adapter = PeftAdapter.open(directory, spec)) {
      AdapterId id = adapter.id(name);
      PackedAdapter packed = new PackedAdapter(adapter, spec, backend);
      synchronized (byName) {
        if (byName.containsKey(name)) {
          packed.free(backend);
          throw new InfiniLoraException(
              ErrorCode.BAD_ADAPTER,
              "%s: an adapter named %s exists already".formatted(directory, name));
        }
        List<PackedAdapter> extended = new ArrayList<>(slots);
        extended.add(packed);
        slots = List.copyOf(extended);
        AdapterInfo info =
            new AdapterInfo(
                id,
                extended.size() - 1,
                packed.targets(),
                adapter.maxRank(),
                packed.bytes(),
                directory.toString());
        byName.put(name, info);
        return info;
      }
    }
  }

  /** The adapter that requests call {@code name}. */
  public Optional<AdapterInfo> find(String name) {
    synchronized (byName) {
      return Optional.ofNullable(byName.get(name));
    }
  }

  /** All adapters in order of registration. */
  public Collection<AdapterInfo> list() {
    synchronized (byName) {
      return List.copyOf(byName.values());
    }
  }

  /** Weights of one site, or null if the adapter in that slot leaves it alone. */
  LoraWeights weights(int slot, int layer, LoraSite site) {
    return slots.get(slot).weights(layer, site);
  }

  /** Weights of one routed site, likewise. */
  ExpertLoraWeights expertWeights(int slot, int layer, LoraSite site) {
    return slots.get(slot).expertWeights(layer, site);
  }

  @Override
  public void close() {
    synchronized (byName) {
      slots.forEach(a -> a.free(backend));
      slots = List.of();
      byName.clear();
    }
  }
}
