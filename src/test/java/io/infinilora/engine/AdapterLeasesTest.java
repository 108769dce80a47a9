package io.infinilora.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.scheduler.AdapterGate.State;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Queue;
import org.junit.jupiter.api.Test;

/** What becomes of leases, by a LoRA side of the test's. */
class AdapterLeasesTest {
  private static final AdapterId ADAPTER = new AdapterId("a", "digest");

  private final FakeRuntime runtime = new FakeRuntime();
  private final Queue<Runnable> timers = new ArrayDeque<>();
  private final Heard heard = new Heard();
  private final AdapterLeases leases =
      new AdapterLeases(runtime, (millis, task) -> timers.add(task), heard);

  /** In coupled mode, an adapter that was unloaded is gone with its last lease. */
  @Test
  void anAdapterThatIsGoneWithItsRevokedLeaseFailsItsRequestsOnly() {
    leases.acquire(ADAPTER, 1);
    runtime.listener.granted();
    runtime.gone = true;
    runtime.listener.revoked();

    assertThat(leases.plan(adapter -> false, () -> Optional.of("a step"))).contains("a step");

    assertThat(leases.state(ADAPTER)).isEqualTo(State.UNAVAILABLE);
    assertThat(heard.failures).isEmpty(); // Whoever plans is not to be told in the midst of it.
    timers.remove().run();
    assertThat(heard.failures).containsExactly(runtime.refusal);
    leases.release(ADAPTER, false);
    assertThat(leases.holds(ADAPTER)).isFalse();
  }

  private static final class Heard implements AdapterLeases.Listener {
    final List<InfiniLoraException> failures = new ArrayList<>();

    @Override
    public void changed() {}

    @Override
    public void troubled(AdapterId adapter, InfiniLoraException cause) {}

    @Override
    public void failed(AdapterId adapter, InfiniLoraException cause) {
      failures.add(cause);
    }
  }

  private static final class FakeRuntime implements LoraRuntime {
    final InfiniLoraException refusal =
        new InfiniLoraException(ErrorCode.MODEL_NOT_FOUND, "there is no adapter any more");
    LeaseListener listener;
    boolean gone;

    @Override
    public Optional<AdapterId> find(String name) {
      return Optional.empty();
    }

    @Override
    public List<AdapterId> adapters() {
      return List.of();
    }

    @Override
    public AdapterAdmin admin() {
      throw new UnsupportedOperationException();
    }

    @Override
    public Lease lease(AdapterId adapter, long deadlineNanos, LeaseListener newListener) {
      if (gone) {
        throw refusal;
      }
      listener = newListener;
      return new Lease() {
        @Override
        public int slot() {
          return 1;
        }

        @Override
        public void release() {}
      };
    }

    @Override
    public Step announce(int[] slotOfRow, long deadlineNanos) {
      return Step.NONE;
    }
  }
}
