package io.infinilora.scheduler;

import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * Admits the sequence with the fewest tokens to be expected: its prompt, and as much output as its
 * adapter's last requests had on average, at most its own limit. One that has been overtaken {@link
 * #MAX_OVERTAKEN} times is next, and so is one that was preempted, since it has been chosen before.
 * What is running is not interrupted.
 */
final class ShortestJobFirst implements SchedulingPolicy {
  /** Admissions of later arrivals that a sequence puts up with: 64, two default batches. */
  static final int MAX_OVERTAKEN = 64;

  /** Weight of the latest output length in an adapter's average: 1/8. */
  private static final double GAIN = 0.125;

  private final Map<Optional<String>, Double> outputLengths = new HashMap<>();

  @Override
  public Sequence select(List<Sequence> prefilling, List<Sequence> candidates) {
    if (!prefilling.isEmpty()) {
      return prefilling.getFirst();
    }
    return candidates.stream()
        .filter(sequence -> sequence.wasAdmitted() || sequence.overtaken() >= MAX_OVERTAKEN)
        .findFirst()
        .orElseGet(() -> shortest(candidates.stream()));
  }

  @Override
  public void ended(Sequence sequence) {
    if (sequence.outputLength() > 0) {
      outputLengths.merge(
          sequence.tenant(),
          (double) sequence.outputLength(),
          (average, latest) -> average + GAIN * (latest - average));
    }
  }

  private Sequence shortest(Stream<Sequence> candidates) {
    return candidates.min(Comparator.comparingDouble(this::expectedTokens)).orElseThrow();
  }

  private double expectedTokens(Sequence sequence) {
    double limit = sequence.maxLength() - sequence.promptLength();
    return sequence.promptLength()
        + Math.min(limit, outputLengths.getOrDefault(sequence.tenant(), limit));
  }
}
