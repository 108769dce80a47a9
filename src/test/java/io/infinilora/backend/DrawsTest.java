package io.infinilora.backend;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

class DrawsTest {
  @Test
  void numbersStayWhatTheyAre() {
    // From an independent implementation: requests must draw the same in every version.
    assertThat(Draws.uniform(3, 0)).isEqualTo(0x1.a1770cd55c650p-1);
    assertThat(Draws.uniform(3, 1)).isEqualTo(0x1.bd880ce1e9608p-2);
    assertThat(Draws.uniform(-5, 7)).isEqualTo(0x1.c1eca984a74d4p-3);
  }
}
