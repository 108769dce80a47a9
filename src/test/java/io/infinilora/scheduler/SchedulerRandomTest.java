package io.infinilora.scheduler;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.config.Policy;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.FinishReason;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Random traffic against a model whose right answers are known: whatever is batched, chunked,
 * shared, preempted, paused, aborted or rolled back, each request gets the tokens it would get
 * alone.
 */
class SchedulerRandomTest {
  private static final int VOCABULARY = 40;

  private int preemptions;
  private int prefixHits;
  private int finished;
  private int refused;
  private int resumptions;
  private int pausedPreemptions;
  private int idle;

  @AfterEach
  void someoneFinished() {
    assertThat(finished).isPositive();
  }

  @ParameterizedTest
  @ValueSource(longs = {1, 2, 3, 4, 5, 6, 7, 8})
  void everyRequestGetsWhatItWouldGetAlone(long seed) {
    for (int round = 0; round < 60; round++) {
      new Run(new Random(seed * 1000 + round), policy(round)).go();
    }
  }

  private static Policy policy(int round) {
    return Policy.values()[round % Policy.values().length];
  }

  @Test
  void theTrafficReachesEveryCorner() {
    for (int round = 0; round < 100; round++) {
      new Run(new Random(round), policy(round)).go();
    }
    assertThat(preemptions).as("preemptions").isGreaterThan(100);
    assertThat(prefixHits).as("prefix hits").isGreaterThan(100);
    assertThat(finished).as("finished").isGreaterThan(500);
    assertThat(refused).as("refused").isGreaterThan(100);
    assertThat(resumptions).as("resumed after a pause").isGreaterThan(25);
    assertThat(pausedPreemptions).as("preempted in a pause").isGreaterThan(100);
    assertThat(idle).as("no step although there is work").isGreaterThan(100);
  }

  /** One scheduler's life. */
  private final class Run {
    private final Random random;
    private final SchedulerConfig config;
    private final FakeGate gate = new FakeGate();
    private final Scheduler scheduler;
    private final FakeModel model;
    private final Map<String, Sequence> alive = new LinkedHashMap<>();
    private final Map<String, List<Integer>> emitted = new HashMap<>();
    private final Set<String> running = new HashSet<>();
    private final Set<String> paused = new HashSet<>();
    private StepPlan plan;
    private int nextId;

    Run(Random random, Policy policy) {
      this.random = random;
      int maxRunning = 1 + random.nextInt(8);
      config =
          new SchedulerConfig(
              maxRunning,
              1 + random.nextInt(10),
              maxRunning + random.nextInt(40),
              1 + random.nextInt(24),
              2 + random.nextInt(random.nextBoolean() ? 14 : 40),
              1 + random.nextInt(6),
              10 + random.nextInt(40),
              random.nextInt(4) > 0,
              policy);
      scheduler = new Scheduler(config, gate);
      model = new FakeModel(config.kvBlocks(), config.blockSize(), VOCABULARY);
    }

    void go() {
      for (int i = 0; i < 300; i++) {
        switch (random.nextInt(15)) {
          case 0, 1, 2 -> add();
          case 3 -> abort();
          case 4, 5, 6 -> flip();
          default -> step(random.nextInt(10) == 0);
        }
        scheduler.checkInvariants();
      }
      gate.openAll();
      for (int i = 0; scheduler.hasWork() || plan != null; i++) {
        assertThat(i).as("steps to drain").isLessThan(20_000);
        step(false);
        scheduler.checkInvariants();
      }
      assertThat(alive).isEmpty();
      assertThat(scheduler.next()).isEmpty();
      assertThat(scheduler.load().running()).isZero();
      assertThat(scheduler.load().waiting()).isZero();
      assertThat(scheduler.load().kvBlocksUsed()).isZero();
      assertThat(scheduler.load().adaptersInUse()).isZero();
    }

    private void add() {
      Sequence sequence = randomSequence();
      try {
        scheduler.add(sequence);
        alive.put(sequence.id(), sequence);
        emitted.put(sequence.id(), new ArrayList<>());
      } catch (InfiniLoraException e) {
        refused++;
        if (e.code() == ErrorCode.OVERLOADED) {
          assertThat(scheduler.load().waiting()).isGreaterThanOrEqualTo(config.maxWaiting());
        } else {
          assertThat(e.code()).isEqualTo(ErrorCode.CONTEXT_LENGTH_EXCEEDED);
          assertThat(sequence.promptLength() + 1).isGreaterThan(scheduler.contextLength());
        }
      }
    }

    private Sequence randomSequence() {
      // Few distinct prefixes, tokens and adapters, so that prefixes are often shared.
      Optional<AdapterId> adapter =
          random.nextBoolean() ? Optional.empty() : Optional.of(adapter(random.nextInt(3)));
      int base = random.nextInt(2);
      int shared = random.nextInt(30);
      int own = 1 + random.nextInt(6);
      int[] prompt =
          IntStream.range(0, shared + own)
              .map(i -> i < shared ? base : 1 + random.nextInt(VOCABULARY - 1))
              .toArray();
      return new Sequence(
          new GenerateRequest(
              "r" + nextId++,
              prompt,
              adapter.map(AdapterId::name),
              Sequences.stoppingAt(1 + random.nextInt(30), random.nextBoolean(), VOCABULARY - 1),
              random.nextInt(8) == 0),
          adapter,
          Set.of(Sequences.EOS));
    }

    private void flip() {
      AdapterGate.State[] states = AdapterGate.State.values();
      gate.set(
          adapter(random.nextInt(3)),
          random.nextBoolean() ? AdapterGate.State.READY : states[random.nextInt(states.length)]);
    }

    /** Three adapters, of which two are generations of the same name. */
    private static AdapterId adapter(int index) {
      return new AdapterId(index < 2 ? "a" : "b", "digest" + index % 2);
    }

    private void abort() {
      if (alive.isEmpty()) {
        assertThat(scheduler.abort("nobody")).isFalse();
        return;
      }
      String id = List.copyOf(alive.keySet()).get(random.nextInt(alive.size()));
      Sequence sequence = alive.remove(id);
      assertThat(scheduler.abort(id)).isTrue();
      assertThat(scheduler.abort(id)).isFalse();
      if (plan == null) {
        assertThat(sequence.blockTable()).isEmpty();
      }
    }

    private void step(boolean fail) {
      if (plan == null) {
        plan = scheduler.next().orElse(null);
        noteStates();
        if (plan == null) {
          assertThat(alive.values()).as("ready, but no plan").noneMatch(gate::admits);
          assertThat(scheduler.hasWork()).isEqualTo(!alive.isEmpty());
          idle += alive.isEmpty() ? 0 : 1;
          return;
        }
        checkPlan();
      } else if (fail) {
        model.spoil(plan);
        scheduler.rollback(plan);
        plan = null;
      } else {
        List<Outcome> outcomes = scheduler.complete(plan, model.run(plan));
        plan = null;
        outcomes.forEach(this::take);
      }
    }

    private void noteStates() {
      boolean readyOnePreempted = false;
      for (Sequence sequence : alive.values()) {
        if (sequence.state() == Sequence.State.RUNNING) {
          if (running.add(sequence.id()) && sequence.cachedPromptTokens() > 0) {
            prefixHits++;
          }
        } else if (running.remove(sequence.id())) {
          preemptions++;
          readyOnePreempted |= gate.admits(sequence);
          pausedPreemptions += gate.admits(sequence) ? 0 : 1;
          paused.remove(sequence.id());
        }
      }
      for (Sequence sequence : alive.values()) {
        if (sequence.state() != Sequence.State.RUNNING) {
          continue;
        }
        if (gate.admits(sequence)) {
          resumptions += paused.remove(sequence.id()) ? 1 : 0;
        } else {
          assertThat(readyOnePreempted).as("%s kept its blocks longer", sequence).isFalse();
          paused.add(sequence.id());
        }
      }
    }

    private void checkPlan() {
      assertThat(plan.rows()).isBetween(1, config.maxBatchedTokens());
      assertThat(plan.slices().stream().mapToInt(StepPlan.Slice::count).sum())
          .isEqualTo(plan.rows());
      assertThat(plan.slices().stream().map(StepPlan.Slice::sequence)).doesNotHaveDuplicates();
      Map<Integer, Sequence> writers = new HashMap<>();
      for (StepPlan.Slice slice : plan.slices()) {
        Sequence sequence = slice.sequence();
        assertThat(alive).containsEntry(sequence.id(), sequence);
        assertThat(gate.admits(sequence)).as("%s is ready", sequence).isTrue();
        assertThat(slice.first()).isEqualTo(sequence.computed());
        assertThat(slice.count()).isBetween(1, config.prefillChunk());
        int end = slice.first() + slice.count();
        assertThat(slice.tokens()).isEqualTo(sequence.tokens(slice.first(), end));
        assertThat(slice.sampled()).isEqualTo(end == sequence.length());
        assertThat(slice.blockTable()).hasSize(Math.ceilDiv(end, config.blockSize()));
        for (int p = slice.first(); p < end; p++) {
          Sequence other = writers.put(slice.blockTable()[p / config.blockSize()], sequence);
          assertThat(other).as("writer of the same block").isIn(null, sequence);
        }
      }
      assertThat(plan.slices().stream().map(StepPlan.Slice::sequence))
          .as("ready decodes have a row in every step")
          .containsAll(alive.values().stream().filter(this::decodes).toList());
    }

    private boolean decodes(Sequence sequence) {
      return sequence.state() == Sequence.State.RUNNING
          && sequence.pending() == 1
          && gate.admits(sequence);
    }

    private void take(Outcome outcome) {
      Sequence sequence = outcome.sequence();
      assertThat(alive).as("sampled, so not aborted").containsKey(sequence.id());
      List<Integer> output = emitted.get(sequence.id());
      assertThat(outcome.index()).isEqualTo(output.size());
      int[] truth = model.alone(sequence, output.size() + 1);
      assertThat(outcome.token()).isEqualTo(truth[output.size()]);
      boolean stop = isStop(sequence, outcome.token());
      assertThat(outcome.emitted()).isEqualTo(!stop);
      if (outcome.emitted()) {
        output.add(outcome.token());
      }
      int most =
          Math.min(
              sequence.request().sampling().maxTokens(),
              scheduler.contextLength() - sequence.promptLength());
      FinishReason expected =
          stop ? FinishReason.STOP : output.size() == most ? FinishReason.LENGTH : null;
      assertThat(outcome.finish()).isEqualTo(expected);
      if (outcome.finish() != null) {
        finished++;
        alive.remove(sequence.id());
        assertThat(sequence.blockTable()).isEmpty();
      }
    }

    private boolean isStop(Sequence sequence, int token) {
      return token == VOCABULARY - 1
          || (token == Sequences.EOS && !sequence.request().sampling().ignoreEos());
    }
  }
}
