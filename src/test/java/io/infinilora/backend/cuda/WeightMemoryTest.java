package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Memory that was asked for at once. */
class WeightMemoryTest {
  private final List<Long> asked = new ArrayList<>();
  private final WeightMemory memory =
      new WeightMemory(
          bytes -> {
            asked.add(bytes);
            return asked.size() * 1_000_000L;
          });

  @Test
  void whatIsExpectedIsAskedForOnce() {
    memory.expect(1000);
    assertThat(memory.allocate(100)).isEqualTo(1_000_000);
    assertThat(memory.allocate(300)).isEqualTo(1_000_256);
    // The last may end where the memory does.
    assertThat(memory.allocate(232)).isEqualTo(1_000_768);
    assertThat(asked).containsExactly(1000L);
  }

  @Test
  void moreThanThatHasMemoryOfItsOwn() {
    assertThat(memory.allocate(7)).isEqualTo(1_000_000);
    memory.expect(1000);
    assertThat(memory.allocate(1001)).isEqualTo(3_000_000);
    assertThat(memory.allocate(512)).isEqualTo(2_000_000);
    assertThat(memory.allocate(489)).isEqualTo(4_000_000);
    assertThat(memory.allocate(488)).isEqualTo(2_000_512);
    assertThat(memory.allocate(1)).isEqualTo(5_000_000);
    assertThat(asked).containsExactly(7L, 1000L, 1001L, 489L, 1L);
  }
}
