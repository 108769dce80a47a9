package io.infinilora.backend.cuda;

import io.infinilora.backend.Backend;
import io.infinilora.backend.Precision;
import io.infinilora.backend.TransferContract;
import java.util.Optional;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;

/** The contract on the first GPU; without one that can be used it is skipped, with the reason. */
@Tag("gpu")
class CudaBackendTest extends TransferContract {
  private static final long BUDGET = 4L << 30;

  @BeforeAll
  static void findGpu() {
    Optional<String> obstacle = CudaProbe.obstacle(0);
    Assumptions.assumeTrue(obstacle.isEmpty(), () -> obstacle.orElse(""));
  }

  @Override
  protected Precision precision() {
    return Precision.BF16;
  }

  @Override
  protected Backend create() {
    return new CudaBackend(0, BUDGET);
  }
}
