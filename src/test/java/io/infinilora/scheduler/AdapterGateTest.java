package io.infinilora.scheduler;

import static io.infinilora.scheduler.Steps.shape;
import static io.infinilora.scheduler.Steps.step;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.config.Policy;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.util.Optional;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What becomes of sequences whose adapter is not ready, and of those beside them. */
class AdapterGateTest {
  private static final int BLOCK = 4;
  private static final AdapterId X = new AdapterId("x", "1");
  private static final AdapterId Y = new AdapterId("y", "1");

  private final FakeGate gate = new FakeGate();

  @ParameterizedTest
  @EnumSource(Policy.class)
  void nobodyWaitsForAnothersAdapter(Policy policy) {
    Scheduler scheduler = scheduler(2, 8, 32, policy);
    gate.set(X, AdapterGate.State.LOADING);
    for (int i = 0; i < 3; i++) {
      scheduler.add(with(X, "x" + i, 2, 2));
    }
    scheduler.add(with(Y, "y", 2, 2));
    scheduler.add(Sequences.counting("base", 2, 2));
    assertThat(shape(step(scheduler))).containsExactly("y 0+2 sampled", "base 0+2 sampled");
    step(scheduler);
    assertThat(scheduler.load().running()).isZero();

    gate.set(X, AdapterGate.State.READY);
    assertThat(shape(step(scheduler))).containsExactly("x0 0+2 sampled", "x1 0+2 sampled");
  }

  @ParameterizedTest
  @EnumSource(names = {"LOADING", "UNAVAILABLE"})
  void aPausedSequenceKeepsItsBlocksAndGoesOnWhereItWas(AdapterGate.State state) {
    Scheduler scheduler = scheduler(4, 8, 32, Policy.FCFS);
    Sequence decoding = with(X, "decoding", 5, 9);
    scheduler.add(decoding);
    step(scheduler);
    Sequence prefilling = with(X, "prefilling", 20, 9);
    scheduler.add(prefilling);
    scheduler.add(Sequences.counting("base", 1, 9));
    step(scheduler);
    int[] table = decoding.blockTable();
    gate.set(X, state);
    assertThat(shape(step(scheduler))).containsExactly("base 1+1 sampled");
    assertThat(shape(step(scheduler))).containsExactly("base 2+1 sampled");
    assertThat(decoding.state()).isEqualTo(Sequence.State.RUNNING);
    assertThat(decoding.blockTable()).isEqualTo(table);
    assertThat(prefilling.computed()).isEqualTo(8);

    gate.set(X, AdapterGate.State.READY);
    assertThat(shape(step(scheduler)))
        .containsExactly("decoding 6+1 sampled", "base 3+1 sampled", "prefilling 8+8");
    scheduler.checkInvariants();
  }

  @Test
  void aDrainingAdapterFinishesWhatRunsAndBeginsNothing() {
    Scheduler scheduler = scheduler(4, 8, 32, Policy.ADAPTER_FAIR);
    scheduler.add(with(X, "running", 3, 2));
    step(scheduler);
    gate.set(X, AdapterGate.State.DRAINING);
    scheduler.add(with(X, "waiting", 3, 2));
    scheduler.add(Sequences.counting("base", 3, 1));
    assertThat(shape(step(scheduler))).containsExactly("running 3+1 sampled", "base 0+3 sampled");
    assertThat(scheduler.next()).isEmpty();
    assertThat(scheduler.load().running()).isZero();

    gate.set(X, AdapterGate.State.READY);
    assertThat(shape(step(scheduler))).containsExactly("waiting 0+3 sampled");
  }

  @Test
  void anAdapterThatLeavesDuringAStepDoesNotDisturbIt() {
    Scheduler scheduler = scheduler(4, 8, 32, Policy.FCFS);
    Sequence a = with(X, "a", 3, 9);
    scheduler.add(a);
    StepPlan plan = scheduler.next().orElseThrow();
    gate.set(X, AdapterGate.State.UNAVAILABLE);
    scheduler.complete(plan, new int[] {5});
    assertThat(a.outputLength()).isEqualTo(1);
    assertThat(scheduler.next()).isEmpty();
  }

  @Test
  void whenAllWaitForAdaptersThereIsNoStepUntilAGateChanges() {
    Scheduler scheduler = scheduler(4, 8, 32, Policy.ADAPTER_FAIR);
    scheduler.add(with(X, "running", 3, 9));
    step(scheduler);
    scheduler.add(with(Y, "waiting", 3, 9));
    gate.set(X, AdapterGate.State.UNAVAILABLE);
    gate.set(Y, AdapterGate.State.LOADING);
    assertThat(scheduler.next()).isEmpty();
    assertThat(scheduler.next()).isEmpty();
    assertThat(scheduler.hasWork()).isTrue();
    gate.set(Y, AdapterGate.State.READY);
    assertThat(shape(step(scheduler))).containsExactly("waiting 0+3 sampled");
    gate.set(X, AdapterGate.State.READY);
    assertThat(shape(step(scheduler)))
        .containsExactly("running 3+1 sampled", "waiting 3+1 sampled");
  }

  @Test
  void aPausedSequenceMayBeAborted() {
    Scheduler scheduler = scheduler(4, 8, 32, Policy.FCFS);
    scheduler.add(with(X, "a", 3, 9));
    step(scheduler);
    gate.set(X, AdapterGate.State.UNAVAILABLE);
    assertThat(scheduler.abort("a")).isTrue();
    assertThat(scheduler.load().kvBlocksUsed()).isZero();
    assertThat(scheduler.hasWork()).isFalse();
  }

  @Test
  void aDecodeTakesBlocksFromThePausedBeforeAnyoneElse() {
    // Six blocks of four: everyone has two, and needs a third at nine tokens.
    Scheduler scheduler = scheduler(4, 8, 6, Policy.FCFS);
    Sequence paused = with(X, "paused", 7, 5);
    Sequence a = Sequences.of("a", new int[] {5, 5, 5, 5, 5, 5, 5}, 5, Optional.empty());
    Sequence b = Sequences.of("b", new int[] {6, 6, 6, 6, 6, 6, 6}, 5, Optional.empty());
    scheduler.add(paused);
    scheduler.add(a);
    scheduler.add(b);
    step(scheduler);
    step(scheduler);
    gate.set(X, AdapterGate.State.UNAVAILABLE);
    assertThat(shape(step(scheduler))).contains("a 8+1 sampled", "b 8+1 sampled");
    assertThat(paused.state()).isEqualTo(Sequence.State.WAITING);
    assertThat(paused.outputLength()).isEqualTo(2);
    scheduler.checkInvariants();
  }

  @Test
  void aNewSequenceTakesThePlaceOfAPausedOne() {
    Scheduler scheduler = scheduler(2, 8, 32, Policy.FCFS);
    Sequence first = with(X, "first", 3, 9);
    Sequence second = with(X, "second", 3, 9);
    scheduler.add(first);
    scheduler.add(second);
    step(scheduler);
    scheduler.add(Sequences.counting("base", 3, 9));
    gate.set(X, AdapterGate.State.UNAVAILABLE);
    assertThat(shape(step(scheduler))).containsExactly("base 0+3 sampled");
    assertThat(first.state()).isEqualTo(Sequence.State.RUNNING);
    assertThat(second.state()).isEqualTo(Sequence.State.WAITING);
    scheduler.checkInvariants();

    gate.set(X, AdapterGate.State.READY);
    assertThat(shape(step(scheduler))).containsExactly("first 3+1 sampled", "base 3+1 sampled");
  }

  @Test
  void aNewSequenceTakesTheBlocksOfPausedOnesOnlyIfThatIsEnough() {
    // Eight blocks: four of base, two of paused, two free.
    Scheduler scheduler = scheduler(4, 8, 8, Policy.FCFS);
    Sequence paused = with(X, "paused", 5, 9);
    scheduler.add(Sequences.counting("base", 13, 9));
    scheduler.add(paused);
    step(scheduler);
    gate.set(X, AdapterGate.State.UNAVAILABLE);
    scheduler.add(Sequences.counting("much", 17, 2));
    assertThat(shape(step(scheduler))).containsExactly("base 8+5 sampled");
    assertThat(paused.state()).isEqualTo(Sequence.State.RUNNING);
    scheduler.abort("much");
    scheduler.add(Sequences.counting("little", 5, 2));
    assertThat(shape(step(scheduler))).containsExactly("base 13+1 sampled", "little 0+5 sampled");
    assertThat(paused.state()).isEqualTo(Sequence.State.RUNNING);
    scheduler.add(Sequences.counting("more", 8, 1));
    assertThat(shape(step(scheduler))).contains("more 0+8 sampled");
    assertThat(paused.state()).isEqualTo(Sequence.State.WAITING);
    scheduler.checkInvariants();
  }

  @Test
  void promptsThatLostTheirBlocksWhilePausedDoNotHoldEachOtherUp() {
    Scheduler scheduler = scheduler(4, 8, 8, Policy.FCFS);
    Sequence first = with(X, "first", 15, 2);
    Sequence second = Sequences.of("second", filled(15, 30), 2, Optional.of(X));
    scheduler.add(first);
    scheduler.add(second);
    assertThat(shape(step(scheduler))).containsExactly("first 0+8", "second 0+8");
    gate.set(X, AdapterGate.State.UNAVAILABLE);
    // Takes the four blocks that both counted on, and is paused in its turn.
    Sequence third = Sequences.of("third", filled(15, 40), 2, Optional.of(Y));
    scheduler.add(third);
    step(scheduler);
    step(scheduler);
    assertThat(first.state()).isEqualTo(Sequence.State.RUNNING);
    assertThat(second.state()).isEqualTo(Sequence.State.RUNNING);
    gate.set(X, AdapterGate.State.READY);
    assertThat(shape(step(scheduler))).containsExactly("third 15+1 sampled");
    while (scheduler.hasWork()) {
      step(scheduler);
      scheduler.checkInvariants();
    }
    assertThat(first.outputLength()).isEqualTo(2);
    assertThat(second.outputLength()).isEqualTo(2);
  }

  @Test
  void ofPromptsThatHoldAllBlocksTheFirstAdmittedGoesOn() {
    // Six blocks; one prompt needs five of them, the other four.
    Scheduler scheduler = scheduler(4, 8, 6, Policy.FCFS);
    Sequence first = with(X, "first", 19, 2);
    Sequence second = with(Y, "second", 15, 2);
    scheduler.add(first);
    assertThat(shape(step(scheduler))).containsExactly("first 0+8");
    gate.set(X, AdapterGate.State.UNAVAILABLE);
    scheduler.add(second);
    assertThat(shape(step(scheduler))).containsExactly("second 0+8");
    gate.set(X, AdapterGate.State.READY);
    assertThat(shape(step(scheduler))).containsExactly("first 8+8");
    assertThat(second.state()).isEqualTo(Sequence.State.RUNNING);
    assertThat(shape(step(scheduler))).containsExactly("first 16+3 sampled");
    assertThat(second.state()).isEqualTo(Sequence.State.WAITING);
    while (scheduler.hasWork()) {
      step(scheduler);
      scheduler.checkInvariants();
    }
    assertThat(second.outputLength()).isEqualTo(2);
  }

  @Test
  void thoseThatWaitForAdaptersLeaveTheQueueToTheOthers() {
    Scheduler scheduler = scheduler(1, 2, 32, Policy.FCFS);
    gate.set(X, AdapterGate.State.LOADING);
    scheduler.add(with(X, "x0", 2, 2));
    scheduler.add(with(X, "x1", 2, 2));
    assertOverloaded(scheduler, with(X, "x2", 2, 2), "2 requests are waiting already for their");
    scheduler.add(Sequences.counting("base0", 2, 2));
    scheduler.add(Sequences.counting("base1", 2, 2));
    assertOverloaded(
        scheduler, Sequences.counting("base2", 2, 2), "2 requests are waiting already;");
  }

  @Test
  void noAdapterIsShutOutByAQueueFullOfOthers() {
    Scheduler scheduler = scheduler(1, 2, 32, Policy.FCFS);
    scheduler.add(with(X, "x0", 2, 2));
    scheduler.add(with(X, "x1", 2, 2));
    scheduler.add(with(Y, "y0", 2, 2));
    assertOverloaded(scheduler, with(Y, "y1", 2, 2), "3 requests are waiting already;");
    // A new generation of an adapter is the same tenant.
    assertOverloaded(
        scheduler, with(new AdapterId("y", "2"), "y2", 2, 2), "3 requests are waiting already;");
    scheduler.add(Sequences.counting("base", 2, 2));
  }

  private Scheduler scheduler(int maxRunning, int maxWaiting, int blocks, Policy policy) {
    return new Scheduler(
        new SchedulerConfig(maxRunning, maxWaiting, 24, 8, blocks, BLOCK, 64, false, policy), gate);
  }

  private static Sequence with(AdapterId adapter, String id, int prompt, int maxTokens) {
    return Sequences.of(
        id, IntStream.rangeClosed(1, prompt).toArray(), maxTokens, Optional.of(adapter));
  }

  private static int[] filled(int length, int token) {
    return IntStream.range(0, length).map(i -> token).toArray();
  }

  private static void assertOverloaded(Scheduler scheduler, Sequence sequence, String message) {
    assertThatThrownBy(() -> scheduler.add(sequence))
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.OVERLOADED))
        .hasMessageStartingWith(message);
  }
}
