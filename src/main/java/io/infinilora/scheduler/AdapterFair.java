package io.infinilora.scheduler;

import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;

/**
 * Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024),
 * applied to every chunk of a prompt instead of whole requests. A tenant is an adapter's name,
 * whatever its generation, or the base model. Each has a counter of the service it got; the next
 * rows go to the tenant with the least, its running sequences before its waiting ones.
 *
 * <p>A tenant that had nothing to do, or whose adapter was not ready, is lifted to the least of
 * those that had work, so it can neither save up service nor be held to account for what nobody
 * else wanted. Of two tenants that always have work, whatever their arrival rates, one is ahead by
 * no more than what its running sequences were still to get when it last had its turn. The other
 * one's wait is bounded by that: every tenant may catch up as much, and then it is next. With one
 * tenant this is first come, first served.
 */
final class AdapterFair implements SchedulingPolicy {
  /** What a row of prompt counts. */
  static final int PROMPT_WEIGHT = 1;

  /** What a row of output counts: the paper's 2, as a decode takes a pass over all weights. */
  static final int OUTPUT_WEIGHT = 2;

  /** Counters above {@link #level}; every other tenant's is the level. */
  private final Map<Optional<String>, Long> counters = new HashMap<>();

  /** Nobody's counter is below it; never sinks. */
  private long level;

  private Set<Optional<String>> backlogged = new HashSet<>();
  private Optional<String> lastServed = Optional.empty();

  @Override
  public void begin(List<Sequence> backlog) {
    Set<Optional<String>> now = new HashSet<>();
    backlog.forEach(sequence -> now.add(sequence.tenant()));
    backlogged.retainAll(now);
    // Whoever is new here starts beside those that stayed, or beside the one served last.
    level = backlogged.stream().mapToLong(this::counter).min().orElseGet(() -> counter(lastServed));
    counters.values().removeIf(counter -> counter <= level);
    backlogged = now;
  }

  @Override
  public Sequence select(List<Sequence> prefilling, List<Sequence> candidates) {
    Sequence least =
        Stream.concat(prefilling.stream(), candidates.stream())
            .reduce((a, b) -> counter(b.tenant()) < counter(a.tenant()) ? b : a)
            .orElseThrow();
    lastServed = least.tenant();
    return least;
  }

  @Override
  public void served(Sequence sequence, int prompt, int output) {
    long cost = (long) prompt * PROMPT_WEIGHT + (long) output * OUTPUT_WEIGHT;
    counters.put(sequence.tenant(), counter(sequence.tenant()) + cost);
  }

  private long counter(Optional<String> tenant) {
    return Math.max(level, counters.getOrDefault(tenant, level));
  }
}
