package io.infinilora.adapter;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.Signal;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoadException;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.LoraTarget;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.Set;
import org.junit.jupiter.api.Test;

class ResidentAdapterTest {
  private static final AdapterId ID = new AdapterId("a", "d");

  private final HaltingSignal signal = new HaltingSignal();
  private final ResidentAdapter adapter =
      new ResidentAdapter(
          new AdapterGeneration(
              ID,
              Path.of("a"),
              Set.of(LoraTarget.Q),
              8,
              new int[] {1, 1},
              1,
              FileTime.fromMillis(0)),
          1,
          signal);

  /** Lets something happen just before it is looked at. */
  private static final class HaltingSignal implements Signal {
    private Runnable before = () -> {};
    private long value;

    @Override
    public void release(long newValue) {
      value = newValue;
    }

    @Override
    public long value() {
      before.run();
      return value;
    }

    @Override
    public boolean await(long wanted, long deadlineNanos) {
      return value >= wanted;
    }
  }

  @Test
  void isCompleteWithItsLastLayer() {
    adapter.add(0, null);
    assertThat(adapter.complete()).isFalse();
    adapter.add(1, null);
    assertThat(adapter.complete()).isTrue();
  }

  /** The loader raises the signal then, too, at any moment. */
  @Test
  void isNeverCompleteIfItsLoadFails() {
    adapter.add(0, null);
    signal.before =
        () -> adapter.fail(new AdapterLoadException(ID, ErrorCode.INTERNAL, "torn", null));
    assertThat(adapter.complete()).isFalse();
    assertThat(adapter.complete()).isFalse();
  }
}
