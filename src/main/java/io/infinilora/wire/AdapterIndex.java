package io.infinilora.wire;

import io.infinilora.core.AdapterId;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListMap;

/**
 * The adapters that requests may name, in order of registration. A change or a look-up costs the
 * same however many there are. One thread changes it, any thread reads it.
 */
public final class AdapterIndex {
  private record Entry(long number, AdapterId id) {}

  private final Map<String, Entry> byName = new ConcurrentHashMap<>();
  private final Map<Long, AdapterId> inOrder = new ConcurrentSkipListMap<>();
  private long last;

  /** Adds an adapter, in its old place if the name is taken. */
  public void put(AdapterId id) {
    Entry before = byName.get(id.name());
    long number = before == null ? ++last : before.number();
    byName.put(id.name(), new Entry(number, id));
    inOrder.put(number, id);
  }

  /** Takes a name away, if it is there. */
  public void remove(String name) {
    Entry entry = byName.remove(name);
    if (entry != null) {
      inOrder.remove(entry.number());
    }
  }

  /** What new requests for a name use. */
  public Optional<AdapterId> find(String name) {
    return Optional.ofNullable(byName.get(name)).map(Entry::id);
  }

  /** All of them, at this moment. */
  public List<AdapterId> list() {
    return List.copyOf(inOrder.values());
  }
}
