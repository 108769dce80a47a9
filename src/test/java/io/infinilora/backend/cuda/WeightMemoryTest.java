package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Memory that was asked for at once. */
class WeightMemoryTest {
  private static final long GAPS = 1L << 20;

  private final List<Long> asked = new ArrayList<>();
  private final WeightMemory memory =
      new WeightMemory(
          bytes -> {
            asked.add(bytes);
            return asked.size() * 10_000_000L;
          });

  @Test
  void whatIsExpectedIsAskedForOnceWithRoomForGaps() {
    memory.expect(1000);
    assertThat(memory.allocate(100)).isEqualTo(10_000_000);
    assertThat(memory.allocate(300)).isEqualTo(10_000_256);
    // 368 bytes have gone into gaps.
    assertThat(memory.allocate(600)).isEqualTo(10_000_768);
    assertThat(asked).containsExactly(1000L + GAPS);
  }

  @Test
  void moreThanThatHasMemoryOfItsOwn() {
    assertThat(memory.allocate(7)).isEqualTo(10_000_000);
    memory.expect(1000);
    assertThat(memory.allocate(1001 + GAPS)).isEqualTo(30_000_000);
    assertThat(memory.allocate(512)).isEqualTo(20_000_000);
    assertThat(memory.allocate(489 + GAPS)).isEqualTo(40_000_000);
    assertThat(memory.allocate(488 + GAPS)).isEqualTo(20_000_512);
    assertThat(memory.allocate(1)).isEqualTo(50_000_000);
    assertThat(asked).containsExactly(7L, 1000L + GAPS, 1001L + GAPS, 489L + GAPS, 1L);
  }
}
