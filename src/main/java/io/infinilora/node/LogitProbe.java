package io.infinilora.node;

import io.infinilora.core.GenerateRequest;
import io.infinilora.core.SamplingParams;
import io.infinilora.engine.BaseModelVerticle;
import io.smallrye.mutiny.Uni;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.concurrent.atomic.AtomicReference;

/** Measures what an adapter does to the logits after a fixed prompt, by two ordinary requests. */
final class LogitProbe {
  private static final int PROMPT_TOKENS = 8;

  private final BaseModelVerticle engine;
  private final int[] prompt;

  /** A probe of an engine that is deployed. */
  LogitProbe(BaseModelVerticle engine) {
    this.engine = engine;
    int vocab = engine.model().vocab();
    prompt = new int[Math.min(PROMPT_TOKENS, engine.contextLength() - 1)];
    for (int i = 0; i < prompt.length; i++) {
      prompt[i] = (int) ((long) vocab * (i + 1) / (prompt.length + 1));
    }
  }

  /** Largest difference between a logit with an adapter and without. */
  Uni<OptionalDouble> change(String adapter) {
    return logits(Optional.empty())
        .chain(
            without ->
                logits(Optional.of(adapter))
                    .map(with -> OptionalDouble.of(difference(with, without))));
  }

  private Uni<float[]> logits(Optional<String> adapter) {
    return Uni.createFrom()
        .deferred(
            () -> {
              AtomicReference<float[]> last = new AtomicReference<>();
              GenerateRequest request =
                  new GenerateRequest(
                      "dry-run" + adapter.map(a -> "-adapted").orElse("-base"),
                      prompt,
                      adapter,
                      SamplingParams.greedy(1).ignoringEos(),
                      true);
              return engine
                  .generate(
                      request,
                      (position, logits) -> {
                        if (position == prompt.length - 1) {
                          last.set(logits.clone());
                        }
                      })
                  .collect()
                  .last()
                  .map(end -> last.get());
            });
  }

  private static double difference(float[] a, float[] b) {
    double most = 0;
    for (int i = 0; i < a.length; i++) {
      most = Math.max(most, Math.abs((double) a[i] - b[i]));
    }
    return most;
  }
}
