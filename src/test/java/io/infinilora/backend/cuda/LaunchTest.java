package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.config.EngineConfig;
import org.junit.jupiter.api.Test;

class LaunchTest {
  @Test
  void aGridHasABlockForEachRowOfTheLargestStep() {
    assertThat(Launch.MAX_GRID).isGreaterThanOrEqualTo(EngineConfig.MOST_BATCHED_TOKENS);
  }
}
