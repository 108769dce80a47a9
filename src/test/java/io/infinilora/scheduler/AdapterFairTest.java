package io.infinilora.scheduler;

import static io.infinilora.scheduler.Steps.shape;
import static io.infinilora.scheduler.Steps.step;
import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.config.Policy;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterId;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class AdapterFairTest {
  private static final String HOT = "hot";
  private static final String COLD = "cold";
  private static final int LONGEST = 60;
  private static final int MAX_RUNNING = 8;

  private final FakeGate gate = new FakeGate();
  private int nextId;

  @Test
  void tenantsTakeTurnsAndTheBaseModelIsOne() {
    Scheduler scheduler = scheduler(1);
    for (int i = 0; i < 3; i++) {
      scheduler.add(sequence("hot" + i, HOT, 8, 1));
    }
    scheduler.add(sequence("cold", COLD, 8, 1));
    scheduler.add(Sequences.counting("base", 8, 1));
    assertThat(shape(step(scheduler))).containsExactly("hot0 0+8 sampled");
    assertThat(shape(step(scheduler))).containsExactly("cold 0+8 sampled");
    assertThat(shape(step(scheduler))).containsExactly("base 0+8 sampled");
    assertThat(shape(step(scheduler))).containsExactly("hot1 0+8 sampled");
    assertThat(shape(step(scheduler))).containsExactly("hot2 0+8 sampled");
  }

  @Test
  void generationsOfAnAdapterAreOneTenant() {
    Scheduler scheduler = scheduler(1);
    scheduler.add(sequence("old", HOT, 8, 1));
    scheduler.add(
        Sequences.of("new", new int[8], 1, Optional.of(new AdapterId(HOT, "another digest"))));
    scheduler.add(sequence("cold", COLD, 8, 1));
    step(scheduler);
    assertThat(shape(step(scheduler))).containsExactly("cold 0+8 sampled");
  }

  @Test
  void longPromptsOfOneAdapterLeaveTheBudgetToTheOthers() {
    Scheduler scheduler = scheduler(8);
    for (int i = 0; i < 4; i++) {
      scheduler.add(sequence("hot" + i, HOT, 50, 1));
    }
    step(scheduler);
    step(scheduler);
    scheduler.add(sequence("cold", COLD, 20, 1));
    scheduler.add(Sequences.counting("base", 4, 1));
    assertThat(shape(step(scheduler))).containsExactly("hot0 16+8", "cold 0+8", "base 0+4 sampled");
    assertThat(shape(step(scheduler))).containsExactly("hot0 24+8", "cold 8+8", "hot1 16+4");
  }

  @Test
  void oneTenantAloneIsServedInOrderOfArrival() {
    Scheduler scheduler = scheduler(8);
    scheduler.add(sequence("long", HOT, 40, 1));
    scheduler.add(sequence("short", HOT, 2, 1));
    scheduler.add(sequence("other", HOT, 20, 1));
    assertThat(shape(step(scheduler)))
        .containsExactly("long 0+8", "short 0+2 sampled", "other 0+8");
    assertThat(shape(step(scheduler))).containsExactly("long 8+8", "other 8+8");
  }

  @Test
  void whoWasIdleHasSavedNothingUp() {
    Scheduler scheduler = scheduler(1);
    scheduler.add(sequence("once", COLD, 1, 1));
    step(scheduler);
    for (int i = 0; i < 20; i++) {
      scheduler.add(sequence("alone" + i, HOT, 8, 3));
      while (scheduler.hasWork()) {
        step(scheduler);
      }
    }
    for (int i = 0; i < 3; i++) {
      scheduler.add(sequence("hot" + i, HOT, 8, 1));
      scheduler.add(sequence("cold" + i, COLD, 8, 1));
    }
    assertThat(List.of(tenant(scheduler), tenant(scheduler), tenant(scheduler), tenant(scheduler)))
        .containsExactlyInAnyOrder(HOT, COLD, HOT, COLD);
  }

  @Test
  void whoseAdapterWasAwayHasSavedNothingUp() {
    Scheduler scheduler = scheduler(1);
    gate.set(id(COLD), AdapterGate.State.UNAVAILABLE);
    for (int i = 0; i < 6; i++) {
      scheduler.add(sequence("cold" + i, COLD, 8, 1));
    }
    for (int i = 0; i < 20; i++) {
      scheduler.add(sequence("hot" + i, HOT, 8, 1));
      scheduler.add(sequence("more" + i, HOT, 8, 1));
      step(scheduler);
      step(scheduler);
    }
    for (int i = 0; i < 3; i++) {
      scheduler.add(sequence("then" + i, HOT, 8, 1));
    }
    gate.openAll();
    assertThat(List.of(tenant(scheduler), tenant(scheduler), tenant(scheduler), tenant(scheduler)))
        .containsExactlyInAnyOrder(HOT, COLD, HOT, COLD);
  }

  @Test
  void aFullHouseDoesNotCostTheWaitingTheirTurn() {
    Scheduler scheduler = scheduler(1);
    scheduler.add(sequence("first", COLD, 4, 1));
    step(scheduler);
    scheduler.add(sequence("long", HOT, 50, 1));
    step(scheduler);
    scheduler.add(sequence("cold0", COLD, 8, 1));
    scheduler.add(sequence("cold1", COLD, 8, 1));
    scheduler.add(sequence("hot", HOT, 8, 1));
    while (scheduler.load().running() > 0) {
      step(scheduler);
    }
    assertThat(tenant(scheduler)).isEqualTo(COLD);
    assertThat(tenant(scheduler)).isEqualTo(COLD);
  }

  @Test
  void onceTheOthersHaveCaughtUpTheHotOneIsNextHoweverManyMoreCome() {
    Scheduler scheduler = scheduler(1);
    scheduler.add(sequence("hot0", HOT, 40, 1));
    scheduler.add(sequence("hot1", HOT, 8, 1));
    for (int i = 0; i < 10; i++) {
      scheduler.add(sequence("cold" + i, COLD, 8, 1));
    }
    for (int i = 0; i < 5; i++) {
      assertThat(tenant(scheduler)).isEqualTo(HOT);
    }
    // Four adapters come and go; their requests alone would fill every step.
    int others = 0;
    String served;
    do {
      scheduler.add(sequence("other" + others, "other" + others % 4, 8, 1));
      others++;
      served = tenant(scheduler);
    } while (!served.equals(HOT) && others < 100);
    // Each of the five took at most the five turns that the hot one had.
    assertThat(others).isBetween(6, 5 * 5 + 1);
  }

  @Test
  void aFailedStepIsNotChargedTwice() {
    Scheduler scheduler = scheduler(1);
    scheduler.add(sequence("hot0", HOT, 8, 1));
    scheduler.add(sequence("hot1", HOT, 8, 1));
    scheduler.add(sequence("cold0", COLD, 8, 1));
    scheduler.add(sequence("cold1", COLD, 8, 1));
    for (int i = 0; i < 5; i++) {
      scheduler.rollback(scheduler.next().orElseThrow());
    }
    assertThat(tenant(scheduler)).isEqualTo(HOT);
    assertThat(tenant(scheduler)).isEqualTo(COLD);
    assertThat(tenant(scheduler)).isEqualTo(HOT);
  }

  @ParameterizedTest
  @ValueSource(longs = {1, 2, 3, 4, 5})
  void theServiceOfTwoBackloggedAdaptersDiffersByABoundedAmount(long seed) {
    Map<String, Long> served = serveBacklogs(seed, Policy.ADAPTER_FAIR);
    // Beyond its turn, an adapter gets no more than what it has running.
    long bound = (long) AdapterFair.OUTPUT_WEIGHT * MAX_RUNNING * LONGEST;
    assertThat(Math.abs(served.get(HOT) - served.get(COLD))).isLessThanOrEqualTo(bound);
    assertThat(served.get(COLD)).isGreaterThan(20 * bound);
  }

  @Test
  void firstComeFirstServedHasNoSuchBound() {
    Map<String, Long> served = serveBacklogs(1, Policy.FCFS);
    assertThat(served.get(HOT)).isGreaterThan(3 * served.get(COLD));
  }

  /**
   * Two adapters that always have requests waiting; {@code HOT} keeps fifteen times as many in the
   * queue. Returns the service each got.
   */
  private Map<String, Long> serveBacklogs(long seed, Policy policy) {
    Random random = new Random(seed);
    Scheduler scheduler =
        new Scheduler(
            new SchedulerConfig(MAX_RUNNING, 100, 40, 16, 60, 4, LONGEST, false, policy), gate);
    Map<String, Long> served = new TreeMap<>();
    Map<Sequence, Integer> counted = new HashMap<>();
    Map<String, Integer> waiting = new HashMap<>(Map.of(HOT, 0, COLD, 0));
    for (int i = 0; i < 8_000; i++) {
      for (String tenant : List.of(HOT, COLD)) {
        while (waiting.get(tenant) < (tenant.equals(HOT) ? 30 : 2)) {
          // The hot one's requests are longer, too.
          int prompt = 1 + random.nextInt(tenant.equals(HOT) ? 40 : 20);
          scheduler.add(sequence("r" + nextId++, tenant, prompt, 1 + random.nextInt(20)));
          waiting.merge(tenant, 1, Integer::sum);
        }
      }
      StepPlan plan = scheduler.next().orElseThrow();
      for (StepPlan.Slice slice : plan.slices()) {
        Sequence sequence = slice.sequence();
        Integer before = counted.get(sequence);
        if (before == null) {
          waiting.merge(sequence.tenant().orElseThrow(), -1, Integer::sum);
        }
        // A position counts once, however often a preemption makes it be computed.
        for (int p = slice.first(); p < slice.first() + slice.count(); p++) {
          if (before == null || p >= before) {
            long weight =
                p < sequence.promptLength() ? AdapterFair.PROMPT_WEIGHT : AdapterFair.OUTPUT_WEIGHT;
            served.merge(sequence.tenant().orElseThrow(), weight, Long::sum);
          }
        }
        counted.merge(sequence, slice.first() + slice.count(), Math::max);
      }
      Steps.complete(scheduler, plan);
    }
    return served;
  }

  /** With room for two chunks and a half in a step. */
  private Scheduler scheduler(int maxRunning) {
    return new Scheduler(
        new SchedulerConfig(maxRunning, 100, 20, 8, 256, 4, 64, false, Policy.ADAPTER_FAIR), gate);
  }

  private static AdapterId id(String tenant) {
    return new AdapterId(tenant, "1");
  }

  private static Sequence sequence(String id, String tenant, int prompt, int maxTokens) {
    int[] tokens = new int[prompt];
    return Sequences.of(id, tokens, maxTokens, Optional.of(id(tenant)));
  }

  /** Runs a step of one slice; whose it was. */
  private static String tenant(Scheduler scheduler) {
    return step(scheduler).slices().getFirst().sequence().tenant().orElseThrow();
  }
}
