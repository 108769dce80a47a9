package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.backend.cuda.CudaProbe;
import io.infinilora.config.DeviceConfig;
import io.infinilora.config.DeviceKind;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.slf4j.LoggerFactory;

/** The choice of a device, on machines with and without a GPU. */
class BackendsTest {
  private static final int NO_SUCH_GPU = 1000;

  private static DeviceConfig device(DeviceKind kind, int index) {
    return new DeviceConfig(kind, index, Optional.empty());
  }

  @Test
  void theProcessorNeedsNoGpu() {
    try (Backend backend = Backends.open(DeviceConfig.DEFAULTS, 1)) {
      assertThat(backend).isInstanceOf(CpuBackend.class);
      assertThat(backend.freeMemory()).isEmpty();
    }
  }

  @Test
  void withoutAGpuOnlyAutoComputesOnTheProcessor() {
    try (Backend backend = Backends.open(device(DeviceKind.AUTO, NO_SUCH_GPU), 1)) {
      assertThat(backend).isInstanceOf(CpuBackend.class);
    }
    assertThatThrownBy(() -> Backends.open(device(DeviceKind.CUDA, NO_SUCH_GPU), 1))
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.BAD_CONFIG))
        .hasMessageStartingWith("device.kind is cuda, but ")
        .hasMessageEndingWith("; device.kind auto would compute on the CPU instead");
  }

  /** Texts of obstacles are those of {@code CudaProbeTest}. */
  @Test
  void theObstacleIsInTheErrorOrInTheLog() {
    String text = "the NVIDIA driver is for CUDA 12.9, but 13.0 or newer is needed";
    assertThatThrownBy(
            () -> Backends.open(device(DeviceKind.CUDA, 0), 1, ordinal -> Optional.of(text)))
        .hasMessage(
            "device.kind is cuda, but "
                + text
                + "; device.kind auto would compute on the CPU instead");

    Logger log = (Logger) LoggerFactory.getLogger(Backends.class);
    ListAppender<ILoggingEvent> said = new ListAppender<>();
    said.start();
    log.addAppender(said);
    try (Backend backend =
        Backends.open(device(DeviceKind.AUTO, 0), 1, ordinal -> Optional.of(text))) {
      assertThat(backend).isInstanceOf(CpuBackend.class);
    } finally {
      log.detachAppender(said);
    }
    assertThat(said.list)
        .extracting(ILoggingEvent::getFormattedMessage)
        .containsExactly("computing on the CPU: " + text);
  }

  /** Whatever the obstacle on this machine is, it is one that a user can do something about. */
  @Test
  void theObstacleIsNamed() {
    Optional<String> obstacle = CudaProbe.obstacle(NO_SUCH_GPU);
    assertThat(obstacle.orElseThrow())
        .containsAnyOf(
            "GPUs are supported on Linux x86-64",
            "this build is for CPUs only",
            "no NVIDIA driver was found (libcuda.so.1)",
            "the NVIDIA driver does not start",
            "the NVIDIA driver sees no GPU",
            "there is no GPU 1000 (device.index)");
  }
}
