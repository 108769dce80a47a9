package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoad;
import io.infinilora.core.AdapterProof;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.DeltaNorm;
import io.infinilora.core.Engine;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoadedAdapter;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TokenEvent;
import io.infinilora.core.TokenLogprobs;
import io.infinilora.fake.FakeEngine;
import io.infinilora.fake.Script;
import io.smallrye.mutiny.Multi;
import io.smallrye.mutiny.Uni;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.UnaryOperator;
import org.assertj.core.data.Offset;
import org.junit.jupiter.api.Test;

/** Trials of adapters with any engine, wherever it is. */
class NodeAdaptersTest {
  private static final List<DeltaNorm> NORMS = List.of(new DeltaNorm(0, LoraTarget.Q, 1, 0.5));

  private final FakeEngine engine = new FakeEngine("taken");
  private final FakeAdmin admin = new FakeAdmin();

  /** Notes what it is asked. */
  private static final class FakeAdmin implements AdapterAdmin {
    final List<AdapterRegistration> loaded = new ArrayList<>();
    final List<String> unloaded = new ArrayList<>();

    @Override
    public Uni<LoadedAdapter> load(AdapterRegistration adapter) {
      loaded.add(adapter);
      return Uni.createFrom().item(new LoadedAdapter(status(adapter.name()), NORMS));
    }

    @Override
    public Uni<Void> unload(String name, WhenInUse whenInUse) {
      return Uni.createFrom().voidItem().invoke(() -> unloaded.add(name));
    }

    @Override
    public Uni<AdapterStatus> pin(String name, boolean pinned) {
      return prefetch(name);
    }

    @Override
    public Uni<AdapterStatus> prefetch(String name) {
      return Uni.createFrom().item(status(name));
    }

    @Override
    public Uni<List<AdapterStatus>> list() {
      return Uni.createFrom().item(loaded.stream().map(a -> status(a.name())).toList());
    }

    private static AdapterStatus status(String name) {
      return new AdapterStatus(
          new AdapterId(name, "d"),
          "/x",
          Set.of(LoraTarget.Q),
          4,
          1,
          2,
          AdapterStatus.Tier.DISK,
          false,
          0);
    }
  }

  /** The fake engine, with other log-probabilities for requests with an adapter. */
  private Engine changing(UnaryOperator<TokenLogprobs> logprobs) {
    return new Engine() {
      @Override
      public Multi<TokenEvent> generate(GenerateRequest request) {
        return engine
            .generate(request)
            .map(
                event ->
                    event instanceof TokenEvent.Token t && request.adapter().isPresent()
                        ? new TokenEvent.Token(t.index(), t.token(), logprobs.apply(t.logprobs()))
                        : event);
      }

      @Override
      public ModelSpec model() {
        return engine.model();
      }

      @Override
      public int contextLength() {
        return engine.contextLength();
      }

      @Override
      public List<AdapterId> adapters() {
        return engine.adapters();
      }

      @Override
      public EngineLoad load() {
        return engine.load();
      }
    };
  }

  private AdapterProof tryOut(Engine tried) {
    return new NodeAdapters(tried, admin)
        .load(new AdapterLoad("x", "/somewhere", false, false, true, true))
        .await()
        .atMost(Duration.ofMinutes(1));
  }

  private static InfiniLoraException failure(ErrorCode code) {
    return new InfiniLoraException(code, "a failure of the test");
  }

  @Test
  void aTrialWaitsForAnEngineThatLearnsOfTheAdapterLater() {
    AtomicInteger early = new AtomicInteger(2);
    engine.scripts(
        r ->
            r.adapter().isPresent() && early.getAndDecrement() > 0
                ? Script.refuses(failure(ErrorCode.MODEL_NOT_FOUND))
                : Script.tokens(7));

    AdapterProof proof =
        tryOut(
            changing(l -> new TokenLogprobs(l.logprob() - 0.25f, l.topTokens(), l.topLogprobs())));

    assertThat(proof.status().id()).isEqualTo(new AdapterId("x", "d"));
    assertThat(proof.norms()).isEqualTo(NORMS);
    // The token is among the alternatives, too, where it has not changed.
    assertThat(proof.logprobChange()).hasValue(0);
    String name = admin.loaded.getFirst().name();
    assertThat(AdapterLoad.isDryRun(name)).isTrue();
    assertThat(admin.loaded)
        .containsExactly(new AdapterRegistration(name, "/somewhere", false, true));
    assertThat(admin.unloaded).containsExactly(name);
  }

  @Test
  void theLargestChangeOfAnyReportedTokenCounts() {
    engine.plays(Script.tokens(7));

    AdapterProof proof =
        tryOut(
            changing(
                l -> {
                  float[] top = l.topLogprobs().clone();
                  top[3] -= 0.5f;
                  top[4] += 0.25f;
                  return new TokenLogprobs(l.logprob(), l.topTokens(), top);
                }));

    assertThat(proof.logprobChange().orElseThrow()).isCloseTo(0.5, Offset.offset(1e-6));
  }

  @Test
  void withoutAnEngineThatComputesTheChangeWasNotTried() {
    engine.plays(Script.refuses(failure(ErrorCode.UNAVAILABLE)));

    AdapterProof proof = tryOut(engine);

    assertThat(proof.logprobChange()).isEmpty();
    assertThat(proof.norms()).isEqualTo(NORMS);
    assertThat(admin.unloaded).hasSize(1);
  }
}
