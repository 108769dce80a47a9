package io.infinilora.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

/** What becomes of the leases of a warm-up, by a LoRA side of the test's. */
class WarmUpLeasesTest {
  private static final InfiniLoraException CAUSE =
      new InfiniLoraException(ErrorCode.UNAVAILABLE, "a shard is gone");

  private final FakeRuntime runtime = new FakeRuntime();

  /** One whose server was lost may be granted by others of its shards yet. */
  @Test
  void leasesThatFailAreReleasedAsWell() {
    runtime.adapters = List.of(new AdapterId("a", "d"), new AdapterId("b", "d"));
    WarmUpLeases leases = new WarmUpLeases(runtime, Duration.ofSeconds(1));
    runtime.listeners.get(0).granted();
    runtime.listeners.get(1).failed(CAUSE);

    assertThat(leases.slots().result()).containsExactly(1);
    leases.release();

    assertThat(runtime.released).containsExactly(1, 2);
  }

  @Test
  void anAdapterThatIsRefusedAtOnceIsDoneWithout() {
    runtime.adapters =
        List.of(new AdapterId("a", "d"), new AdapterId("refused", "d"), new AdapterId("b", "d"));
    WarmUpLeases leases = new WarmUpLeases(runtime, Duration.ofSeconds(1));
    runtime.listeners.forEach(LoraRuntime.LeaseListener::granted);

    assertThat(leases.slots().result()).containsExactly(1, 2);
    leases.release();

    assertThat(runtime.released).containsExactly(1, 2);
  }

  private static final class FakeRuntime implements LoraRuntime {
    final List<LeaseListener> listeners = new ArrayList<>();
    final List<Integer> released = new ArrayList<>();
    List<AdapterId> adapters = List.of();

    @Override
    public Optional<AdapterId> find(String name) {
      return Optional.empty();
    }

    @Override
    public List<AdapterId> adapters() {
      return adapters;
    }

    @Override
    public AdapterAdmin admin() {
      throw new UnsupportedOperationException();
    }

    @Override
    public Lease lease(AdapterId adapter, long deadlineNanos, LeaseListener listener) {
      if (adapter.name().equals("refused")) {
        throw CAUSE;
      }
      listeners.add(listener);
      int slot = listeners.size();
      return new Lease() {
        @Override
        public int slot() {
          return slot;
        }

        @Override
        public void release() {
          released.add(slot);
        }
      };
    }

    @Override
    public Step announce(int[] slotOfRow, long deadlineNanos) {
      return Step.NONE;
    }
  }
}
