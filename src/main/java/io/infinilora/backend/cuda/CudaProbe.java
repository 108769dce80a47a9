package io.infinilora.backend.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.util.Optional;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUdevice_attribute;
import jcuda.driver.CUresult;
import jcuda.driver.JCudaDriver;

/** Finds out whether a GPU can be used, and if not, why. */
public final class CudaProbe {
  /** The kernels' compiler is of CUDA 13.0, whose code and PTX older drivers do not load. */
  private static final int MIN_DRIVER = 13_000;

  /** Ampere: bf16 in the tensor cores, asynchronous copies. */
  private static final int MIN_CAPABILITY = 80;

  private CudaProbe() {}

  /**
   * Looks at a device without taking it into use.
   *
   * @return what a user must know and do, or empty if the device can be used
   */
  public static Optional<String> obstacle(int ordinal) {
    String platform = System.getProperty("os.name") + " " + System.getProperty("os.arch");
    if (!platform.equals("Linux amd64")) {
      return Optional.of("GPUs are supported on Linux x86-64, this is " + platform);
    }
    if (CudaProbe.class.getResource("matrix_few.fatbin") == null) {
      return Optional.of(
          "this build is for CPUs only: it was made without a CUDA compiler (`make cuda` fetches one)");
    }
    try (Arena arena = Arena.ofConfined()) {
      SymbolLookup.libraryLookup("libcuda.so.1", arena);
    } catch (IllegalArgumentException e) {
      return Optional.of(
          "no NVIDIA driver was found (libcuda.so.1); install one, or start the container with GPU access");
    }
    try {
      return obstacle(new InstalledDriver(), ordinal);
    } catch (UnsatisfiedLinkError e) {
      return Optional.of("JCuda does not load with this driver: " + e.getMessage());
    }
  }

  /** What a driver says of itself and of its devices. */
  interface Driver {
    /** Status of its start. */
    int start();

    /** 1000 times the major version of CUDA plus 10 times the minor one. */
    int version();

    /** Devices that it sees. */
    int devices();

    /** Ten times the major version plus the minor one. */
    int capability(int ordinal);

    /** What the maker calls the device. */
    String name(int ordinal);
  }

  /** Likewise, of any driver. */
  static Optional<String> obstacle(Driver driver, int ordinal) {
    int status = driver.start();
    if (status == CUresult.CUDA_ERROR_NO_DEVICE) {
      return Optional.of("the NVIDIA driver sees no GPU; start the container with GPU access");
    }
    if (status != CUresult.CUDA_SUCCESS) {
      return Optional.of("the NVIDIA driver does not start: " + CUresult.stringFor(status));
    }
    int version = driver.version();
    if (version < MIN_DRIVER) {
      return Optional.of(
          "the NVIDIA driver is for CUDA %d.%d, but %d.%d or newer is needed"
              .formatted(
                  version / 1000, version % 1000 / 10, MIN_DRIVER / 1000, MIN_DRIVER % 1000 / 10));
    }
    int count = driver.devices();
    if (ordinal >= count) {
      return Optional.of(
          "there is no GPU %d (device.index): the driver sees %d".formatted(ordinal, count));
    }
    int capability = driver.capability(ordinal);
    if (capability < MIN_CAPABILITY) {
      return Optional.of(
          "GPU %d (%s) has compute capability %d.%d, but %d.%d or newer is needed"
              .formatted(
                  ordinal,
                  driver.name(ordinal),
                  capability / 10,
                  capability % 10,
                  MIN_CAPABILITY / 10,
                  MIN_CAPABILITY % 10));
    }
    return Optional.empty();
  }

  /** The one of this machine. */
  private static final class InstalledDriver implements Driver {
    @Override
    public int start() {
      JCudaDriver.setExceptionsEnabled(false);
      return JCudaDriver.cuInit(0);
    }

    @Override
    public int version() {
      int[] version = new int[1];
      JCudaDriver.cuDriverGetVersion(version);
      return version[0];
    }

    @Override
    public int devices() {
      int[] count = new int[1];
      JCudaDriver.cuDeviceGetCount(count);
      return count[0];
    }

    @Override
    public int capability(int ordinal) {
      CUdevice device = device(ordinal);
      return 10 * attribute(device, CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
          + attribute(device, CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    }

    @Override
    public String name(int ordinal) {
      return CudaDevice.nameOf(device(ordinal));
    }

    private static CUdevice device(int ordinal) {
      CUdevice device = new CUdevice();
      JCudaDriver.cuDeviceGet(device, ordinal);
      return device;
    }
  }

  private static int attribute(CUdevice device, int id) {
    int[] value = new int[1];
    JCudaDriver.cuDeviceGetAttribute(value, id, device);
    return value[0];
  }

  /**
   * Bytes of a device's memory that nobody uses at this moment.
   *
   * @throws CudaException if the driver refuses the device
   */
  public static long freeMemory(int ordinal) {
    CudaDevice.fail(JCudaDriver.cuInit(0), "cuInit");
    CUdevice device = new CUdevice();
    CudaDevice.fail(JCudaDriver.cuDeviceGet(device, ordinal), "cuDeviceGet(" + ordinal + ")");
    CUcontext context = new CUcontext();
    CudaDevice.fail(
        JCudaDriver.cuDevicePrimaryCtxRetain(context, device), "cuDevicePrimaryCtxRetain");
    try {
      CudaDevice.fail(JCudaDriver.cuCtxSetCurrent(context), "cuCtxSetCurrent");
      long[] free = new long[1];
      CudaDevice.fail(JCudaDriver.cuMemGetInfo(free, new long[1]), "cuMemGetInfo");
      return free[0];
    } finally {
      JCudaDriver.cuDevicePrimaryCtxRelease(device);
    }
  }
}
