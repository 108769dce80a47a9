package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

/** Where pieces of slabs lie. */
class DeviceSlabsTest {
  private static final long FIRST = 1L << 40;

  private final List<Long> asked = new ArrayList<>();
  private long free = FIRST;

  private long source(long bytes) {
    asked.add(bytes);
    long address = free;
    free += (bytes / 256 + 2) * 256; // What lies between is nobody's.
    return address;
  }

  @Test
  void piecesAreAlignedAndApart() {
    DeviceSlabs slabs = new DeviceSlabs(this::source);
    TreeMap<Long, Long> pieces = new TreeMap<>();
    for (int i = 0; i < 4000; i++) {
      long bytes = 4 + 97L * i % 20_000;
      pieces.put(slabs.allocate(bytes), bytes);
    }
    assertThat(pieces).hasSize(4000);
    long end = 0;
    for (var piece : pieces.entrySet()) {
      assertThat(piece.getKey()).isGreaterThanOrEqualTo(end);
      assertThat(piece.getKey() % 256).isZero();
      end = piece.getKey() + piece.getValue();
    }
    assertThat(asked).containsOnly(DeviceSlabs.SLAB_BYTES);
    // A slab ends when the next piece does not fit, so at most one piece of each is lost.
    assertThat(asked).hasSizeLessThan(41);
  }

  @Test
  void aSlabIsFilledToItsEnd() {
    DeviceSlabs slabs = new DeviceSlabs(this::source);
    for (long i = 0; i < DeviceSlabs.SLAB_BYTES / 4096; i++) {
      assertThat(slabs.allocate(4096)).isEqualTo(FIRST + i * 4096);
    }
    assertThat(asked).hasSize(1);
    slabs.allocate(1);
    assertThat(asked).hasSize(2);
  }

  @Test
  void largePiecesHaveTheirOwn() {
    DeviceSlabs slabs = new DeviceSlabs(this::source);
    long small = slabs.allocate(16);
    assertThat(slabs.allocate(500_000)).isEqualTo(FIRST + DeviceSlabs.SLAB_BYTES + 512);
    assertThat(slabs.allocate(16)).isEqualTo(small + 256);
    assertThat(asked).containsExactly(DeviceSlabs.SLAB_BYTES, 500_000L);
  }
}
