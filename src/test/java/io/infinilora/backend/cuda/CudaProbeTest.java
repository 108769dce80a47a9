package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import jcuda.driver.CUresult;
import org.junit.jupiter.api.Test;

/** What is said of drivers and devices that cannot be used. */
class CudaProbeTest {
  /** A driver with devices of one capability. */
  private record FakeDriver(int start, int version, int devices, int capability)
      implements CudaProbe.Driver {
    @Override
    public int capability(int ordinal) {
      return capability;
    }

    @Override
    public String name(int ordinal) {
      return "Tesla V" + 100 * (ordinal + 1);
    }
  }

  private static String obstacle(int start, int version, int devices, int capability, int ordinal) {
    return CudaProbe.obstacle(new FakeDriver(start, version, devices, capability), ordinal)
        .orElse("none");
  }

  @Test
  void aDriverThatIsNewEnoughAndAGpuOfAmpereOrLaterWillDo() {
    assertThat(obstacle(0, 13_000, 1, 80, 0)).isEqualTo("none");
    assertThat(obstacle(0, 13_010, 2, 120, 1)).isEqualTo("none");
  }

  @Test
  void aDriverThatDoesNotStart() {
    assertThat(obstacle(CUresult.CUDA_ERROR_SYSTEM_NOT_READY, 13_000, 1, 90, 0))
        .isEqualTo("the NVIDIA driver does not start: CUDA_ERROR_SYSTEM_NOT_READY");
  }

  @Test
  void anOldDriver() {
    assertThat(obstacle(0, 12_090, 1, 90, 0))
        .isEqualTo("the NVIDIA driver is for CUDA 12.9, but 13.0 or newer is needed");
  }

  @Test
  void noDevice() {
    assertThat(obstacle(CUresult.CUDA_ERROR_NO_DEVICE, 13_000, 0, 0, 0))
        .isEqualTo("the NVIDIA driver sees no GPU; start the container with GPU access");
    assertThat(obstacle(0, 13_000, 2, 90, 2))
        .isEqualTo("there is no GPU 2 (device.index): the driver sees 2");
  }

  @Test
  void anOldDevice() {
    assertThat(obstacle(0, 13_000, 2, 75, 1))
        .isEqualTo("GPU 1 (Tesla V200) has compute capability 7.5, but 8.0 or newer is needed");
  }
}
