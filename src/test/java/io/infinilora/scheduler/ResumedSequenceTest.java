package io.infinilora.scheduler;

import static io.infinilora.scheduler.Steps.shape;
import static io.infinilora.scheduler.Steps.step;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.config.Policy;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.FinishReason;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Sequences of which a part was generated elsewhere. */
class ResumedSequenceTest {
  private static final int BLOCK = 4;
  private static final int VOCABULARY = 50;
  private static final int[] PROMPT = {7, 8, 9, 10, 11};

  private static SchedulerConfig config(int kvBlocks, int context, boolean prefixCache) {
    return new SchedulerConfig(4, 8, 16, 6, kvBlocks, BLOCK, context, prefixCache);
  }

  private static Sequence sequence(
      String id, SamplingParams sampling, int[] generated, Optional<TokenEvent.Started> started) {
    return new Sequence(
        new GenerateRequest(
            id, PROMPT, Optional.empty(), sampling, false, false, generated, started),
        Optional.empty(),
        Set.of(Sequences.EOS));
  }

  /** Runs until nobody is left; the outcomes of one sequence. */
  private static List<Outcome> run(Scheduler scheduler, FakeModel model, String id) {
    List<Outcome> outcomes = new ArrayList<>();
    for (Optional<StepPlan> plan = scheduler.next(); plan.isPresent(); plan = scheduler.next()) {
      scheduler.complete(plan.get(), model.run(plan.get())).stream()
          .filter(outcome -> outcome.sequence().id().equals(id))
          .forEach(outcomes::add);
    }
    scheduler.checkInvariants();
    return outcomes;
  }

  private static List<String> shown(List<Outcome> outcomes) {
    return outcomes.stream()
        .map(o -> "%d: %d %s %s".formatted(o.index(), o.token(), o.emitted(), o.finish()))
        .toList();
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void goesOnAtEverySplitPointAsIfUninterrupted(boolean prefixCache) {
    List<SamplingParams> ways =
        List.of(
            SamplingParams.greedy(20).ignoringEos(),
            // Ends at the context's end.
            SamplingParams.greedy(1000).ignoringEos(),
            // Ends at the token that is the 14th of the output.
            Sequences.stoppingAt(20, true, tokens(14)[13]));
    for (SamplingParams sampling : ways) {
      Scheduler first = new Scheduler(config(16, 30, prefixCache));
      first.add(sequence("a", sampling, new int[0], Optional.empty()));
      List<Outcome> whole = run(first, new FakeModel(16, BLOCK, VOCABULARY), "a");
      assertThat(whole.getLast().finish()).isNotNull();
      int[] tokens = whole.stream().mapToInt(Outcome::token).toArray();
      for (int split = 0; split < whole.size(); split++) {
        Scheduler second = new Scheduler(config(16, 30, prefixCache));
        Sequence resumed = sequence("a", sampling, Arrays.copyOf(tokens, split), Optional.empty());
        second.add(resumed);
        List<Outcome> rest = run(second, new FakeModel(16, BLOCK, VOCABULARY), "a");
        assertThat(shown(rest))
            .as("split %d", split)
            .isEqualTo(shown(whole.subList(split, whole.size())));
        assertThat(resumed.outputLength()).isEqualTo(whole.getLast().sequence().outputLength());
      }
    }
  }

  private static int[] tokens(int count) {
    FakeModel model = new FakeModel(16, BLOCK, VOCABULARY);
    return model.alone(
        sequence("a", SamplingParams.greedy(count), new int[0], Optional.empty()), count);
  }

  @Test
  void isPreemptedAndGoesOnLikeOthers() {
    int[] tokens = tokens(24);
    SamplingParams sampling = SamplingParams.greedy(24).ignoringEos();
    Scheduler scheduler = new Scheduler(config(10, 64, true));
    scheduler.add(Sequences.counting("earlier", 9, 24));
    Sequence resumed = sequence("a", sampling, Arrays.copyOf(tokens, 5), Optional.empty());
    scheduler.add(resumed);
    List<Outcome> rest = new ArrayList<>();
    boolean preempted = false;
    FakeModel model = new FakeModel(10, BLOCK, VOCABULARY);
    for (Optional<StepPlan> plan = scheduler.next(); plan.isPresent(); plan = scheduler.next()) {
      preempted |= !rest.isEmpty() && resumed.state() == Sequence.State.WAITING;
      scheduler.complete(plan.get(), model.run(plan.get())).stream()
          .filter(outcome -> outcome.sequence() == resumed)
          .forEach(rest::add);
    }
    assertThat(preempted).isTrue();
    assertThat(rest.stream().mapToInt(Outcome::token).toArray())
        .containsExactly(Arrays.copyOfRange(tokens, 5, 24));
  }

  @Test
  void reportsTheCachedTokensOfItsStart() {
    SamplingParams sampling = SamplingParams.greedy(9).ignoringEos();
    Scheduler scheduler = new Scheduler(config(16, 64, true));
    scheduler.add(sequence("first", sampling, new int[0], Optional.empty()));
    FakeModel model = new FakeModel(16, BLOCK, VOCABULARY);
    run(scheduler, model, "first");
    for (int cached : new int[] {0, 2}) {
      Sequence resumed =
          sequence(
              "a",
              sampling,
              tokens(4),
              Optional.of(new TokenEvent.Started(Optional.empty(), cached)));
      scheduler.add(resumed);
      // The first two blocks are computed already, but that is not what the client is told.
      StepPlan plan = scheduler.next().orElseThrow();
      assertThat(shape(plan)).containsExactly("a 8+1 sampled");
      scheduler.complete(plan, model.run(plan));
      assertThat(resumed.cachedPromptTokens()).isEqualTo(cached);
      scheduler.abort("a");
    }
  }

  @Test
  void itsTenantIsNotChargedTwice() {
    Optional<AdapterId> other = Optional.of(new AdapterId("other", "1"));
    SchedulerConfig fair =
        new SchedulerConfig(1, 8, 16, 16, 32, BLOCK, 64, false, Policy.ADAPTER_FAIR);
    Scheduler scheduler = new Scheduler(fair);
    scheduler.add(
        sequence("a", SamplingParams.greedy(7).ignoringEos(), tokens(6), Optional.empty()));
    scheduler.add(Sequences.counting("c", 2, 1));
    scheduler.add(Sequences.of("b", new int[] {1, 2}, 1, other));
    step(scheduler);
    // What was computed again for "a" counts for nothing, so its tenant is not behind the other.
    assertThat(shape(step(scheduler))).containsExactly("c 0+2 sampled");
  }

  @Test
  void needsRoomForOneMoreToken() {
    Scheduler scheduler = new Scheduler(config(16, 9, true));
    SamplingParams sampling = SamplingParams.greedy(20).ignoringEos();
    assertThatThrownBy(() -> scheduler.add(sequence("a", sampling, tokens(4), Optional.empty())))
        .isInstanceOfSatisfying(
            InfiniLoraException.class,
            e -> assertThat(e.code()).isEqualTo(ErrorCode.CONTEXT_LENGTH_EXCEEDED))
        .hasMessageContaining("5 tokens")
        .hasMessageContaining("4 generated elsewhere");
    scheduler.add(sequence("b", sampling, tokens(3), Optional.empty()));
    assertThat(run(scheduler, new FakeModel(16, BLOCK, VOCABULARY), "b").getLast().finish())
        .isEqualTo(FinishReason.LENGTH);
  }

  @Test
  void anImpossiblePastIsRefused() {
    assertThatThrownBy(() -> sequence("a", SamplingParams.greedy(4), new int[4], Optional.empty()))
        .isInstanceOf(InfiniLoraException.class)
        .hasMessageContaining("max_tokens is 4");
    TokenEvent.Started started = new TokenEvent.Started(Optional.of(new AdapterId("x", "1")), 0);
    assertThatThrownBy(
            () -> sequence("a", SamplingParams.greedy(4), new int[1], Optional.of(started)))
        .isInstanceOf(InfiniLoraException.class)
        .hasMessageContaining("started with x");
  }
}
