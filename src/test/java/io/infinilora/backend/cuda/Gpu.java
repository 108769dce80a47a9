package io.infinilora.backend.cuda;

import java.util.Optional;
import org.junit.jupiter.api.Assumptions;

/** The first GPU, for tests that need one. */
public final class Gpu {
  /** Tensors live as long as their backend. */
  private static final long SHARED_BUDGET = 32L << 30;

  /**
   * One backend for all tests, where opening one takes long: the driver compiles the kernels for
   * other devices each time, and compute-sanitizer rewrites them all.
   */
  private static final boolean SHARED =
      "1".equals(System.getenv("CUDA_FORCE_PTX_JIT"))
          || Boolean.getBoolean("infinilora.oneBackend");

  private static CudaBackend shared;

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

  /** A backend with so many bytes, or the one that all tests share; give it to {@link #release}. */
  static synchronized CudaBackend acquire(long bytes) {
    if (!SHARED) {
      return new CudaBackend(0, bytes);
    }
    if (shared == null) {
      shared = new CudaBackend(0, SHARED_BUDGET);
    }
    return shared;
  }

  /** Closes it unless it is shared: that one ends with the process. */
  static synchronized void release(CudaBackend backend) {
    if (backend != shared) {
      backend.close();
    }
  }
}
