package io.infinilora.node;

import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.backend.cuda.CudaBackend;
import io.infinilora.backend.cuda.CudaProbe;
import io.infinilora.config.ByteSize;
import io.infinilora.config.DeviceConfig;
import io.infinilora.config.DeviceKind;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.util.Optional;
import java.util.function.IntFunction;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Opens the device that the settings ask for. */
public final class Backends {
  private static final Logger LOG = LoggerFactory.getLogger(Backends.class);

  /** Part of the free memory that is used unless the settings say how much. */
  private static final double SHARE = 0.9;

  private Backends() {}

  /**
   * Opens it.
   *
   * @param threads CPU threads that will be busy at the same time
   * @throws InfiniLoraException BAD_CONFIG if a GPU is asked for and cannot be used
   */
  public static Backend open(DeviceConfig device, int threads) {
    return open(device, threads, CudaProbe::obstacle);
  }

  /** The same, where {@code probe} says why a GPU cannot be used. */
  static Backend open(DeviceConfig device, int threads, IntFunction<Optional<String>> probe) {
    if (device.kind() == DeviceKind.CPU) {
      return cpu(threads);
    }
    Optional<String> obstacle = probe.apply(device.index());
    if (obstacle.isEmpty()) {
      return new CudaBackend(device.index(), budget(device));
    }
    if (device.kind() == DeviceKind.CUDA) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "device.kind is cuda, but %s; device.kind auto would compute on the CPU instead"
              .formatted(obstacle.get()));
    }
    LOG.info("computing on the CPU: {}", obstacle.get());
    return cpu(threads);
  }

  private static long budget(DeviceConfig device) {
    long free = CudaProbe.freeMemory(device.index());
    long budget = device.memory().map(ByteSize::bytes).orElse((long) (SHARE * free));
    if (budget > free) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "device.memory is %.2f GiB, but only %.2f GiB of GPU %d are free"
              .formatted(budget / 0x1p30, free / 0x1p30, device.index()));
    }
    return budget;
  }

  private static Backend cpu(int threads) {
    return new CpuBackend(threads <= Runtime.getRuntime().availableProcessors());
  }
}
