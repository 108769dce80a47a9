package io.infinilora.adapter;

import io.infinilora.core.AdapterId;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The adapters that may be claimed, by name. A name has one current generation, which new requests
 * take; older ones stay known until their last claim ends. One thread.
 */
public final class AdapterCatalog {
  private final Map<String, AdapterGeneration> current = new LinkedHashMap<>();
  private final Map<AdapterId, AdapterGeneration> known = new HashMap<>();

  /**
   * Makes a generation the current one of its name.
   *
   * @return the generation that it replaces; empty if the name is new or the content the same
   */
  public Optional<AdapterGeneration> publish(AdapterGeneration generation) {
    AdapterGeneration before = current.put(generation.id().name(), generation);
    known.put(generation.id(), generation);
    return Optional.ofNullable(before).filter(b -> !b.id().equals(generation.id()));
  }

  /** Takes a name away; its generation stays known until it is forgotten. */
  public Optional<AdapterGeneration> withdraw(String name) {
    return Optional.ofNullable(current.remove(name));
  }

  /** Forgets a generation that is not current and that nobody claims. */
  public void forget(AdapterId id) {
    if (!isCurrent(id)) {
      known.remove(id);
    }
  }

  /** Whether new requests for the name take this generation. */
  public boolean isCurrent(AdapterId id) {
    AdapterGeneration generation = current.get(id.name());
    return generation != null && generation.id().equals(id);
  }

  /** The current generation of a name. */
  public Optional<AdapterGeneration> current(String name) {
    return Optional.ofNullable(current.get(name));
  }

  /** A generation, current or not. */
  public Optional<AdapterGeneration> find(AdapterId id) {
    return Optional.ofNullable(known.get(id));
  }

  /** Number of current generations. */
  public int size() {
    return current.size();
  }

  /** The current generations in order of registration. */
  public List<AdapterGeneration> list() {
    return new ArrayList<>(current.values());
  }
}
