package io.infinilora.backend.cuda;

import java.util.Optional;
import org.junit.jupiter.api.Assumptions;

/** The first GPU, for tests that need one. */
public final class Gpu {
  private Gpu() {}

  /** Skips the test where there is none that can be used, with the reason. */
  public static void require() {
    Optional<String> obstacle = CudaProbe.obstacle(0);
    Assumptions.assumeTrue(obstacle.isEmpty(), () -> obstacle.orElse(""));
  }

  /** Skips it, too, if so many bytes are not free. */
  static void require(long bytes) {
    require();
    Assumptions.assumeTrue(CudaProbe.freeMemory(0) > bytes, "the GPU is in use");
  }
}
