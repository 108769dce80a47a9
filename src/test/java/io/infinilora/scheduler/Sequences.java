package io.infinilora.scheduler;

import io.infinilora.core.AdapterId;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.SamplingParams;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.IntStream;

/** Sequences for tests. */
final class Sequences {
  static final int EOS = 0;

  private Sequences() {}

  /** A base-model sequence with the prompt {@code 1 .. length}. */
  static Sequence counting(String id, int length, int maxTokens) {
    return of(id, IntStream.rangeClosed(1, length).toArray(), maxTokens, Optional.empty());
  }

  static Sequence of(String id, int[] prompt, int maxTokens, Optional<AdapterId> adapter) {
    return new Sequence(
        new GenerateRequest(
            id, prompt, adapter.map(AdapterId::name), SamplingParams.greedy(maxTokens)),
        adapter,
        Set.of(EOS));
  }

  static SamplingParams stoppingAt(int maxTokens, boolean ignoreEos, Integer... stopTokens) {
    return new SamplingParams(
        0, 1, 0, 0, 1, 0, 0, 0, Map.of(), List.of(stopTokens), maxTokens, ignoreEos, -1);
  }
}
