package io.infinilora.metrics;

import java.util.Optional;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.TreeSet;

/** Which adapters have waiting and running requests. Safe for any thread. */
final class ActiveAdapters {
  private final SortedMap<String, Integer> waiting = new TreeMap<>();
  private final SortedMap<String, Integer> running = new TreeMap<>();

  synchronized void queued(Optional<String> adapter) {
    adapter.ifPresent(a -> add(waiting, a, 1));
  }

  synchronized void admitted(Optional<String> adapter) {
    adapter.ifPresent(
        a -> {
          add(waiting, a, -1);
          add(running, a, 1);
        });
  }

  synchronized void preempted(Optional<String> adapter) {
    adapter.ifPresent(
        a -> {
          add(running, a, -1);
          add(waiting, a, 1);
        });
  }

  synchronized void abandoned(Optional<String> adapter) {
    adapter.ifPresent(a -> add(waiting, a, -1));
  }

  synchronized void released(Optional<String> adapter) {
    adapter.ifPresent(a -> add(running, a, -1));
  }

  /** Names with waiting requests, sorted. */
  synchronized Set<String> waiting() {
    return new TreeSet<>(waiting.keySet());
  }

  /** Names with running requests, sorted. */
  synchronized Set<String> running() {
    return new TreeSet<>(running.keySet());
  }

  private static void add(SortedMap<String, Integer> counts, String adapter, int change) {
    counts.merge(adapter, change, (a, b) -> a + b == 0 ? null : a + b);
  }
}
