package io.infinilora.metrics;

import io.infinilora.core.AdapterLoad;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Values of the {@code adapter} label: the first {@link #MAX_ADAPTERS} adapters that are seen have
 * their own, the rest share one, so that the number of time series is bounded. Safe for any thread.
 */
final class AdapterLabels {
  /** Adapters with a label of their own. */
  static final int MAX_ADAPTERS = 100;

  /** Requests without an adapter. */
  static final String BASE = "(base)";

  /** Requests of adapters beyond the limit. */
  static final String OTHER = "(other)";

  /** Requests that try adapters which nobody can name. */
  static final String DRY_RUN = "(dry run)";

  private final Set<String> known = ConcurrentHashMap.newKeySet();

  /** The label of an adapter, or of the base model. */
  String of(Optional<String> adapter) {
    if (adapter.isEmpty()) {
      return BASE;
    }
    String name = adapter.get();
    if (AdapterLoad.isDryRun(name)) {
      return DRY_RUN;
    }
    if (known.contains(name)) {
      return name;
    }
    synchronized (this) {
      if (known.size() < MAX_ADAPTERS) {
        known.add(name);
      }
      return known.contains(name) ? name : OTHER;
    }
  }
}
