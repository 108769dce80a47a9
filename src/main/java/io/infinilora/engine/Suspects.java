package io.infinilora.engine;

import io.infinilora.core.AdapterId;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;

/**
 * The adapters of steps that failed on the LoRA side. One of them may be the cause, so each is
 * computed without other adapters until a step with it succeeds, in turn with steps without any of
 * them: what is wrong with one adapter does not take others down. Event loop only.
 */
final class Suspects {
  /** A suspicion without news is dropped after this. */
  private static final long MEMORY_NANOS = TimeUnit.MINUTES.toNanos(1);

  /** When each failed last; the one probed longest ago comes first. */
  private final Map<AdapterId, Long> failures = new LinkedHashMap<>();

  private AdapterId probed;
  private boolean probedLast;

  /** A step with these adapters failed. */
  void failed(Set<AdapterId> adapters, long now) {
    failures.values().removeIf(last -> now - last > MEMORY_NANOS);
    for (AdapterId adapter : adapters) {
      failures.remove(adapter);
      failures.put(adapter, now);
    }
  }

  /** A step with these adapters succeeded. */
  void cleared(Set<AdapterId> adapters) {
    failures.keySet().removeAll(adapters);
  }

  /** Whether the next step should hold a suspect: one is ready, and the last step held none. */
  boolean probeNext(Predicate<AdapterId> ready) {
    return !probedLast && failures.keySet().stream().anyMatch(ready);
  }

  /**
   * Begins a step.
   *
   * @param probe whether it is to hold a suspect, the next one that is ready
   * @return false if there is no such suspect
   */
  boolean begin(boolean probe, Predicate<AdapterId> ready) {
    probedLast = probe;
    probed = probe ? failures.keySet().stream().filter(ready).findFirst().orElse(null) : null;
    if (probed != null) {
      failures.put(probed, failures.remove(probed)); // To the end.
    }
    return probe == (probed != null);
  }

  /** Whether the step that was begun may hold this adapter. */
  boolean admits(AdapterId adapter) {
    return probed == null ? !failures.containsKey(adapter) : adapter.equals(probed);
  }
}
