package io.infinilora.metrics;

import io.infinilora.metrics.RequestMetrics.Generation;
import io.infinilora.metrics.RequestMetrics.Outcome;
import io.micrometer.core.instrument.Clock;
import java.util.concurrent.TimeUnit;

/** Times one generation. Not thread-safe. */
final class TimedGeneration implements Generation {
  private final Clock clock;
  private final AdapterMeters meters;
  private final long begin;
  private long firstToken;
  private long lastToken;
  private int tokens;

  TimedGeneration(Clock clock, AdapterMeters meters) {
    this.clock = clock;
    this.meters = meters;
    this.begin = clock.monotonicTime();
  }

  @Override
  public void token() {
    lastToken = clock.monotonicTime();
    if (tokens == 0) {
      firstToken = lastToken;
      meters.firstToken.record(firstToken - begin, TimeUnit.NANOSECONDS);
    }
    tokens++;
  }

  @Override
  public void end(Outcome outcome, int promptTokens) {
    meters.duration.record(clock.monotonicTime() - begin, TimeUnit.NANOSECONDS);
    meters.promptTokens.increment(promptTokens);
    meters.outputTokens.increment(tokens);
    meters.outcomes.get(outcome).increment();
    if (tokens > 1) {
      meters.perToken.record((lastToken - firstToken) / (tokens - 1), TimeUnit.NANOSECONDS);
    }
  }
}
