package io.infinilora.scheduler;

import static io.infinilora.scheduler.Steps.shape;
import static io.infinilora.scheduler.Steps.step;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.FinishReason;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.SamplingParams;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.Test;

class SchedulerTest {
  private static final int BLOCK = 4;
  private static final SchedulerConfig ROOMY =
      new SchedulerConfig(4, 8, 16, 8, 32, BLOCK, 64, true);

  @Test
  void aPromptRunsInChunksAndOnlyTheLastOneIsSampled() {
    Scheduler scheduler = new Scheduler(ROOMY);
    scheduler.add(Sequences.counting("a", 11, 4));

    StepPlan first = scheduler.next().orElseThrow();
    assertThat(shape(first)).containsExactly("a 0+8");
    assertThat(first.samples()).isEmpty();
    assertThat(scheduler.complete(first, new int[0])).isEmpty();

    StepPlan second = scheduler.next().orElseThrow();
    assertThat(shape(second)).containsExactly("a 8+3 sampled");
    assertThat(second.slices().getFirst().tokens()).containsExactly(9, 10, 11);
    assertThat(second.slices().getFirst().blockTable()).hasSize(3);
    assertThat(scheduler.complete(second, new int[] {5}))
        .containsExactly(new Outcome(first.slices().getFirst().sequence(), 0, 5, true, null));

    assertThat(shape(scheduler.next().orElseThrow())).containsExactly("a 11+1 sampled");
  }

  @Test
  void decodesComeFirstThenRunningPromptsThenNewOnesWithinTheBudget() {
    Scheduler scheduler = new Scheduler(new SchedulerConfig(4, 8, 10, 6, 32, BLOCK, 64, false));
    scheduler.add(Sequences.counting("long", 20, 4));
    scheduler.add(Sequences.counting("short", 2, 4));
    scheduler.add(Sequences.counting("new", 30, 4));
    assertThat(shape(step(scheduler))).containsExactly("long 0+6", "short 0+2 sampled", "new 0+2");
    assertThat(shape(step(scheduler))).containsExactly("short 2+1 sampled", "long 6+6", "new 2+3");
  }

  @Test
  void runningSequencesNeverExceedTheirLimit() {
    Scheduler scheduler = new Scheduler(new SchedulerConfig(2, 8, 16, 8, 32, BLOCK, 64, true));
    for (String id : List.of("a", "b", "c")) {
      scheduler.add(Sequences.counting(id, 2, 2));
    }
    assertThat(shape(step(scheduler))).containsExactly("a 0+2 sampled", "b 0+2 sampled");
    assertThat(scheduler.load().waiting()).isEqualTo(1);
    step(scheduler);
    assertThat(shape(step(scheduler))).containsExactly("c 0+2 sampled");
  }

  @Test
  void endOfSequenceAndStopTokensEndWithoutBeingEmitted() {
    assertThat(onlyOutcome(Sequences.stoppingAt(9, false), Sequences.EOS))
        .extracting(Outcome::emitted, Outcome::finish)
        .containsExactly(false, FinishReason.STOP);
    assertThat(onlyOutcome(Sequences.stoppingAt(9, true, 7), 7))
        .extracting(Outcome::emitted, Outcome::finish)
        .containsExactly(false, FinishReason.STOP);
    assertThat(onlyOutcome(Sequences.stoppingAt(9, true), Sequences.EOS))
        .extracting(Outcome::emitted, Outcome::finish)
        .containsExactly(true, null);
  }

  @Test
  void theTokenLimitEndsWithLength() {
    assertThat(onlyOutcome(Sequences.stoppingAt(1, false), 9))
        .extracting(Outcome::emitted, Outcome::finish)
        .containsExactly(true, FinishReason.LENGTH);
  }

  @Test
  void theContextsEndCutsTheOutput() {
    Scheduler scheduler = new Scheduler(new SchedulerConfig(1, 1, 16, 16, 32, BLOCK, 12, true));
    Sequence sequence = Sequences.counting("a", 10, 1000);
    scheduler.add(sequence);
    step(scheduler);
    StepPlan plan = scheduler.next().orElseThrow();
    assertThat(scheduler.complete(plan, new int[] {5}).getFirst().finish())
        .isEqualTo(FinishReason.LENGTH);
    assertThat(sequence.length()).isEqualTo(12);
    assertThat(scheduler.hasWork()).isFalse();
  }

  @Test
  void aPromptThatLeavesNoRoomIsRefusedWithTheNumbers() {
    Scheduler small = new Scheduler(new SchedulerConfig(1, 1, 16, 16, 3, BLOCK, 64, true));
    assertThat(small.contextLength()).isEqualTo(12);
    assertThatThrownBy(() -> small.add(Sequences.counting("a", 12, 1)))
        .isInstanceOfSatisfying(
            InfiniLoraException.class,
            e -> assertThat(e.code()).isEqualTo(ErrorCode.CONTEXT_LENGTH_EXCEEDED))
        .hasMessageContaining("12 tokens")
        .hasMessageContaining("context length 64")
        .hasMessageContaining("3 blocks of 4");
    small.add(Sequences.counting("b", 11, 1));
    assertThat(shape(step(small))).containsExactly("b 0+11 sampled");
  }

  @Test
  void aFullQueueAndAnIdInUseAreRefused() {
    Scheduler scheduler = new Scheduler(new SchedulerConfig(1, 2, 16, 16, 8, BLOCK, 32, true));
    scheduler.add(Sequences.counting("a", 2, 2));
    assertThatThrownBy(() -> scheduler.add(Sequences.counting("a", 2, 2)))
        .isInstanceOfSatisfying(
            InfiniLoraException.class,
            e -> assertThat(e.code()).isEqualTo(ErrorCode.INVALID_REQUEST));
    scheduler.add(Sequences.counting("b", 2, 2));
    assertThatThrownBy(() -> scheduler.add(Sequences.counting("c", 2, 2)))
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.OVERLOADED))
        .hasMessageContaining("2 requests are waiting");
    step(scheduler);
    scheduler.add(Sequences.counting("c", 2, 2));
  }

  @Test
  void aSharedPrefixIsReusedButTheLastPromptTokenIsComputed() {
    Scheduler scheduler = new Scheduler(ROOMY);
    Sequence first = Sequences.counting("first", 8, 1);
    scheduler.add(first);
    int[] table = step(scheduler).slices().getFirst().blockTable();
    assertThat(scheduler.load().kvBlocksUsed()).isZero();

    Sequence same = Sequences.counting("same", 8, 1);
    Sequence longer = Sequences.counting("longer", 9, 1);
    scheduler.add(same);
    scheduler.add(longer);
    StepPlan plan = step(scheduler);
    assertThat(shape(plan)).containsExactly("same 4+4 sampled", "longer 8+1 sampled");
    assertThat(plan.slices().get(0).blockTable()).startsWith(table[0]);
    assertThat(plan.slices().get(1).blockTable()).startsWith(table[0], table[1]);
    assertThat(same.cachedPromptTokens()).isEqualTo(4);
    assertThat(longer.cachedPromptTokens()).isEqualTo(8);
    assertThat(first.cachedPromptTokens()).isZero();
  }

  @Test
  void noPrefixIsSharedBetweenAdaptersOrGenerationsOfOne() {
    Scheduler scheduler = new Scheduler(ROOMY);
    int[] prompt = {1, 2, 3, 4, 5};
    List<Optional<AdapterId>> adapters =
        List.of(
            Optional.empty(),
            Optional.of(new AdapterId("a", "old")),
            Optional.of(new AdapterId("a", "new")));
    for (Optional<AdapterId> adapter : adapters) {
      scheduler.add(Sequences.of("cold " + adapter, prompt, 1, adapter));
      assertThat(step(scheduler).rows()).as("cold %s", adapter).isEqualTo(5);
    }
    for (Optional<AdapterId> adapter : adapters) {
      scheduler.add(Sequences.of("warm " + adapter, prompt, 1, adapter));
      assertThat(step(scheduler).rows()).as("warm %s", adapter).isEqualTo(1);
    }
  }

  @Test
  void promptLogprobsNeedEveryRowSoNoPrefixIsReused() {
    Scheduler scheduler = new Scheduler(ROOMY);
    int[] prompt = {1, 2, 3, 4, 5};
    scheduler.add(Sequences.of("a", prompt, 1, Optional.empty()));
    step(scheduler);
    scheduler.add(
        new Sequence(
            new GenerateRequest(
                "b", prompt, Optional.empty(), Sequences.stoppingAt(1, false), true),
            Optional.empty(),
            Set.of()));
    assertThat(shape(step(scheduler))).containsExactly("b 0+5 sampled");
    scheduler.checkInvariants();
  }

  @Test
  void equalPromptsInOneStepEndUpSharingTheirBlocks() {
    Scheduler scheduler = new Scheduler(new SchedulerConfig(4, 8, 32, 16, 32, BLOCK, 64, true));
    Sequence a = Sequences.counting("a", 9, 4);
    Sequence b = Sequences.counting("b", 9, 4);
    scheduler.add(a);
    scheduler.add(b);
    step(scheduler);
    assertThat(Arrays.copyOf(b.blockTable(), 2)).isEqualTo(Arrays.copyOf(a.blockTable(), 2));
    assertThat(b.blockTable()[2]).isNotEqualTo(a.blockTable()[2]);
    assertThat(scheduler.load().kvBlocksUsed()).isEqualTo(4);
    scheduler.checkInvariants();
  }

  @Test
  void withoutPrefixCacheNothingIsReused() {
    Scheduler scheduler = new Scheduler(new SchedulerConfig(4, 8, 16, 16, 32, BLOCK, 64, false));
    scheduler.add(Sequences.counting("a", 9, 1));
    step(scheduler);
    scheduler.add(Sequences.counting("b", 9, 1));
    assertThat(shape(step(scheduler))).containsExactly("b 0+9 sampled");
  }

  @Test
  void whenBlocksRunOutTheLastAdmittedIsRecomputedWithItsOutput() {
    // Four blocks: each sequence needs a third one when it reaches 9 tokens.
    Scheduler scheduler = new Scheduler(new SchedulerConfig(2, 8, 16, 16, 4, BLOCK, 16, false));
    Sequence a = Sequences.counting("a", 7, 5);
    Sequence b = Sequences.counting("b", 7, 5);
    scheduler.add(a);
    scheduler.add(b);
    assertThat(shape(step(scheduler))).containsExactly("a 0+7 sampled", "b 0+7 sampled");
    assertThat(shape(step(scheduler))).containsExactly("a 7+1 sampled", "b 7+1 sampled");
    assertThat(shape(step(scheduler))).containsExactly("a 8+1 sampled");
    assertThat(b.state()).isEqualTo(Sequence.State.WAITING);
    assertThat(b.outputLength()).isEqualTo(2);
    assertThat(b.blockTable()).isEmpty();
    while (a.state() == Sequence.State.RUNNING) {
      step(scheduler);
    }
    StepPlan plan = scheduler.next().orElseThrow();
    assertThat(shape(plan)).containsExactly("b 0+9 sampled");
    assertThat(plan.slices().getFirst().tokens()).containsExactly(1, 2, 3, 4, 5, 6, 7, 99, 99);
    assertThat(scheduler.complete(plan, new int[] {9}).getFirst().index()).isEqualTo(2);
  }

  @Test
  void aRolledBackStepIsPlannedAgainAndReleasesItsBlocks() {
    Scheduler scheduler = new Scheduler(ROOMY);
    scheduler.add(Sequences.counting("a", 11, 4));
    step(scheduler);
    StepPlan plan = scheduler.next().orElseThrow();
    assertThat(scheduler.load().kvBlocksUsed()).isEqualTo(3);
    scheduler.rollback(plan);
    assertThat(scheduler.load().kvBlocksUsed()).isEqualTo(2);
    scheduler.checkInvariants();
    assertThat(shape(scheduler.next().orElseThrow())).isEqualTo(shape(plan));
  }

  @Test
  void blocksInUseAreNoticedWhereNothingShouldRun() {
    Scheduler scheduler = new Scheduler(ROOMY);
    scheduler.checkIdle();
    scheduler.add(Sequences.counting("a", 11, 4));
    step(scheduler);
    assertThatThrownBy(scheduler::checkIdle)
        .isInstanceOf(IllegalStateException.class)
        .hasMessage("2 KV blocks are in use by nobody");
    scheduler.abort("a");
    scheduler.checkIdle();
  }

  @Test
  void aFailedDecodeIsTriedAgainFromTheLastTokenWithoutLossOrDuplicate() {
    Scheduler scheduler = new Scheduler(ROOMY);
    Sequence a = Sequences.counting("a", 3, 3);
    scheduler.add(a);
    scheduler.complete(scheduler.next().orElseThrow(), new int[] {7});
    for (int attempt = 1; attempt <= 3; attempt++) {
      StepPlan failing = scheduler.next().orElseThrow();
      assertThat(shape(failing)).containsExactly("a 3+1 sampled");
      assertThat(failing.slices().getFirst().tokens()).containsExactly(7);
      scheduler.rollback(failing);
      assertThat(a.failedSteps()).isEqualTo(attempt);
      assertThat(a.outputLength()).isEqualTo(1);
      scheduler.checkInvariants();
    }
    StepPlan retry = scheduler.next().orElseThrow();
    assertThat(scheduler.complete(retry, new int[] {8}))
        .containsExactly(new Outcome(a, 1, 8, true, null));
    assertThat(a.failedSteps()).isZero();
    StepPlan last = scheduler.next().orElseThrow();
    assertThat(scheduler.complete(last, new int[] {9}))
        .containsExactly(new Outcome(a, 2, 9, true, FinishReason.LENGTH));
    assertThat(a.tokens(0, a.length())).containsExactly(1, 2, 3, 7, 8, 9);
  }

  @Test
  void whoeverHasFailedTooOftenIsAbortedAndTheOthersGoOn() {
    Scheduler scheduler = new Scheduler(ROOMY);
    Sequence a = Sequences.counting("a", 3, 3);
    scheduler.add(a);
    step(scheduler);
    scheduler.rollback(scheduler.next().orElseThrow());
    scheduler.add(Sequences.counting("b", 2, 3));
    scheduler.rollback(scheduler.next().orElseThrow());
    assertThat(a.failedSteps()).isEqualTo(2);
    assertThat(scheduler.abort("a")).isTrue();
    assertThat(shape(step(scheduler))).containsExactly("b 0+2 sampled");
    scheduler.checkInvariants();
  }

  @Test
  void anAbortFreesAtOnceOrWhenTheStepLands() {
    Scheduler scheduler = new Scheduler(ROOMY);
    Sequence a = Sequences.counting("a", 3, 4);
    scheduler.add(a);
    scheduler.add(Sequences.counting("b", 3, 4));
    assertThat(scheduler.abort("b")).isTrue();
    StepPlan plan = scheduler.next().orElseThrow();
    assertThat(shape(plan)).containsExactly("a 0+3 sampled");
    assertThat(scheduler.abort("a")).isTrue();
    assertThat(scheduler.abort("a")).isFalse();
    assertThat(scheduler.load().kvBlocksUsed()).isEqualTo(1);
    assertThat(scheduler.complete(plan, new int[] {5})).isEmpty();
    assertThat(scheduler.load().kvBlocksUsed()).isZero();
    assertThat(a.outputLength()).isZero();
    assertThat(scheduler.hasWork()).isFalse();
  }

  @Test
  void anAbortedSequenceLeavesWithARolledBackStepToo() {
    Scheduler scheduler = new Scheduler(ROOMY);
    scheduler.add(Sequences.counting("a", 3, 4));
    StepPlan plan = scheduler.next().orElseThrow();
    scheduler.abort("a");
    scheduler.rollback(plan);
    assertThat(scheduler.next()).isEmpty();
    assertThat(scheduler.load().kvBlocksUsed()).isZero();
  }

  @Test
  void thePreemptedIsNextAndItsFirstPrefixHitIsTheOneReported() {
    Scheduler scheduler = new Scheduler(new SchedulerConfig(2, 8, 16, 16, 4, BLOCK, 16, true));
    Sequence a = Sequences.counting("a", 7, 5);
    Sequence b = Sequences.of("b", new int[] {9, 8, 7, 6, 5, 4, 3}, 5, Optional.empty());
    scheduler.add(a);
    scheduler.add(b);
    step(scheduler);
    scheduler.add(Sequences.counting("c", 2, 2));
    step(scheduler);
    assertThat(shape(step(scheduler))).containsExactly("a 8+1 sampled");
    while (a.state() == Sequence.State.RUNNING) {
      step(scheduler);
    }
    // Its first block is still cached, but the request itself found none.
    assertThat(shape(step(scheduler))).startsWith("b 4+5 sampled");
    assertThat(b.cachedPromptTokens()).isZero();
  }

  @Test
  void aCachedPrefixIsNotCountedAsRoomForTheRest() {
    Scheduler scheduler = new Scheduler(new SchedulerConfig(2, 8, 16, 16, 4, BLOCK, 16, true));
    scheduler.add(Sequences.counting("p", 8, 1));
    step(scheduler);
    scheduler.add(Sequences.of("a", new int[] {9, 9, 9, 9, 9}, 2, Optional.empty()));
    scheduler.add(Sequences.counting("q", 9, 1));
    // Two blocks are left, both holding q's prefix; its third block has no place.
    assertThat(shape(step(scheduler))).containsExactly("a 0+5 sampled");
    assertThat(scheduler.load().waiting()).isEqualTo(1);
    step(scheduler);
    assertThat(shape(step(scheduler))).containsExactly("q 8+1 sampled");
  }

  @Test
  void aPolicyMayChooseAnotherThanTheFirst() {
    SchedulingPolicy shortest =
        (prefilling, candidates) ->
            candidates.stream().min(Comparator.comparingInt(Sequence::length)).orElseThrow();
    Scheduler scheduler =
        new Scheduler(new SchedulerConfig(1, 8, 8, 8, 32, 4, 64, true), AdapterGate.OPEN, shortest);
    scheduler.add(Sequences.counting("long", 8, 1));
    scheduler.add(Sequences.counting("short", 3, 1));
    assertThat(shape(step(scheduler))).containsExactly("short 0+3 sampled");
    assertThat(shape(step(scheduler))).containsExactly("long 0+8 sampled");
  }

  @Test
  void loadCountsSequencesBlocksAndDistinctAdapters() {
    Scheduler scheduler = new Scheduler(ROOMY);
    Optional<AdapterId> adapter = Optional.of(new AdapterId("a", "1"));
    scheduler.add(Sequences.of("p", new int[] {1, 2, 3, 4, 5}, 4, adapter));
    scheduler.add(Sequences.of("q", new int[] {9}, 4, adapter));
    scheduler.add(Sequences.of("r", new int[] {9}, 4, Optional.empty()));
    assertThat(scheduler.load().waiting()).isEqualTo(3);
    step(scheduler);
    var load = scheduler.load();
    assertThat(load.running()).isEqualTo(3);
    assertThat(load.waiting()).isZero();
    assertThat(load.kvBlocksUsed()).isEqualTo(4);
    assertThat(load.kvBlocksTotal()).isEqualTo(32);
    assertThat(load.adaptersInUse()).isEqualTo(1);
  }

  @Test
  void misuseIsAnError() {
    Scheduler scheduler = new Scheduler(ROOMY);
    scheduler.add(Sequences.counting("a", 3, 4));
    StepPlan plan = scheduler.next().orElseThrow();
    assertThatThrownBy(scheduler::next).isInstanceOf(IllegalStateException.class);
    assertThatThrownBy(() -> scheduler.complete(plan, new int[2]))
        .isInstanceOf(IllegalArgumentException.class);
    scheduler.complete(plan, new int[] {5});
    assertThatThrownBy(() -> scheduler.complete(plan, new int[] {5}))
        .isInstanceOf(IllegalStateException.class);
    assertThatThrownBy(() -> scheduler.rollback(plan)).isInstanceOf(IllegalStateException.class);
  }

  private static Outcome onlyOutcome(SamplingParams sampling, int token) {
    Scheduler scheduler = new Scheduler(ROOMY);
    scheduler.add(
        new Sequence(
            new GenerateRequest("a", new int[] {1, 2}, Optional.empty(), sampling),
            Optional.empty(),
            Set.of(Sequences.EOS)));
    return scheduler.complete(scheduler.next().orElseThrow(), new int[] {token}).getFirst();
  }
}
