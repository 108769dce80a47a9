package io.infinilora.scheduler;

import static io.infinilora.scheduler.Steps.shape;
import static io.infinilora.scheduler.Steps.step;
import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.config.Policy;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterId;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class ShortestJobFirstTest {
  private final FakeGate gate = new FakeGate();
  private final Scheduler scheduler =
      new Scheduler(new SchedulerConfig(1, 200, 8, 8, 64, 4, 256, false, Policy.SJF), gate);

  @Test
  void promptAndOutputLimitMakeTheLength() {
    scheduler.add(Sequences.counting("a", 4, 9));
    scheduler.add(Sequences.counting("b", 6, 3));
    scheduler.add(Sequences.counting("c", 2, 8));
    assertThat(order(3)).containsExactly("b", "c", "a");
  }

  @Test
  void equallyLongOnesKeepTheirOrder() {
    scheduler.add(Sequences.counting("a", 4, 2));
    scheduler.add(Sequences.counting("b", 2, 4));
    assertThat(order(2)).containsExactly("a", "b");
  }

  @Test
  void whatAnAdapterUsuallySaysCountsMoreThanItsLimit() {
    Sequence terse = with("terse", "terse0", 4, 50);
    scheduler.add(terse);
    scheduler.complete(scheduler.next().orElseThrow(), new int[] {7});
    scheduler.complete(scheduler.next().orElseThrow(), new int[] {Sequences.EOS});
    assertThat(terse.state()).isEqualTo(Sequence.State.DONE);
    scheduler.add(with("other", "a", 4, 10));
    scheduler.add(with("terse", "b", 4, 50));
    assertThat(order(2)).containsExactly("b", "a");
  }

  @Test
  void thePreemptedIsNextHoweverLong() {
    Scheduler tight =
        new Scheduler(new SchedulerConfig(2, 8, 16, 16, 4, 4, 16, false, Policy.SJF), gate);
    tight.add(Sequences.counting("a", 7, 4));
    tight.add(Sequences.counting("b", 7, 5));
    for (int i = 0; i < 3; i++) {
      step(tight);
    }
    Sequence shorter = Sequences.counting("short", 1, 1);
    tight.add(shorter);
    while (tight.load().running() > 0) {
      step(tight);
      assertThat(shorter.state()).isEqualTo(Sequence.State.WAITING);
    }
    assertThat(shape(step(tight)).getFirst()).startsWith("b 0+");
  }

  @Test
  void aLongJobIsOvertakenSoManyTimesAndNotOnceMore() {
    Sequence longJob = Sequences.counting("long", 100, 1);
    scheduler.add(longJob);
    scheduler.add(Sequences.counting("short0", 1, 1));
    int admissions = 0;
    while (longJob.state() == Sequence.State.WAITING) {
      // There is always a shorter one.
      scheduler.add(Sequences.counting("short" + ++admissions, 1, 1));
      Sequence chosen = step(scheduler).slices().getFirst().sequence();
      assertThat(chosen == longJob).isEqualTo(admissions > ShortestJobFirst.MAX_OVERTAKEN);
    }
    assertThat(longJob.overtaken()).isEqualTo(ShortestJobFirst.MAX_OVERTAKEN);
  }

  @Test
  void whoWaitsForItsAdapterIsNotOvertaken() {
    Sequence waiting = with("x", "waiting", 2, 1);
    gate.set(waiting.adapter().orElseThrow(), AdapterGate.State.LOADING);
    scheduler.add(waiting);
    for (int i = 0; i < 2 * ShortestJobFirst.MAX_OVERTAKEN; i++) {
      scheduler.add(Sequences.counting("short" + i, 1, 1));
      step(scheduler);
    }
    assertThat(waiting.overtaken()).isZero();
  }

  private List<String> order(int count) {
    return IntStream.range(0, count)
        .mapToObj(
            i -> {
              Sequence first = step(scheduler).slices().getFirst().sequence();
              while (first.state() == Sequence.State.RUNNING) {
                step(scheduler);
              }
              return first.id();
            })
        .toList();
  }

  private static Sequence with(String adapter, String id, int prompt, int maxTokens) {
    int[] tokens = new int[prompt];
    return Sequences.of(id, tokens, maxTokens, Optional.of(new AdapterId(adapter, "1")));
  }
}
