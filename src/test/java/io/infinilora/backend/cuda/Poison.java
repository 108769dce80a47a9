package io.infinilora.backend.cuda;

import java.nio.charset.StandardCharsets;
import jcuda.Pointer;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUfunction;
import jcuda.driver.CUmodule;
import jcuda.driver.CUstream;
import jcuda.driver.CUstream_flags;
import jcuda.driver.JCudaDriver;

/** What makes the first GPU's context of no use to this process, by a kernel of its own. */
public enum Poison {
  /** The kernel stops itself. */
  TRAP("trap;"),
  /** The kernel writes where there is nothing. */
  ADDRESS(".reg .u64 %p; mov.u64 %p, 64; st.global.u32 [%p], 1;"),
  /** The kernel writes to an address that no integer can have. */
  ALIGNMENT(".reg .u64 %p; mov.u64 %p, 65; st.global.u32 [%p], 1;");

  private final String body;

  Poison(String body) {
    this.body = body;
  }

  /**
   * Loads the kernel.
   *
   * @return launches it, on a stream of its own, and does not wait for it; same thread
   */
  public Runnable load() {
    String ptx =
        """
        .version 7.0
        .target sm_80
        .address_size 64
        .visible .entry poison() { %s ret; }
        """
            .formatted(body);
    CUdevice device = new CUdevice();
    CudaDevice.fail(JCudaDriver.cuDeviceGet(device, 0), "cuDeviceGet");
    CUcontext context = new CUcontext();
    CudaDevice.fail(
        JCudaDriver.cuDevicePrimaryCtxRetain(context, device), "cuDevicePrimaryCtxRetain");
    CudaDevice.fail(JCudaDriver.cuCtxSetCurrent(context), "cuCtxSetCurrent");
    CUmodule module = new CUmodule();
    byte[] source = (ptx + "\0").getBytes(StandardCharsets.US_ASCII);
    CudaDevice.fail(JCudaDriver.cuModuleLoadData(module, source), "cuModuleLoadData");
    CUfunction function = new CUfunction();
    CudaDevice.fail(
        JCudaDriver.cuModuleGetFunction(function, module, "poison"), "cuModuleGetFunction");
    CUstream stream = new CUstream();
    CudaDevice.fail(
        JCudaDriver.cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING),
        "cuStreamCreate");
    return () ->
        CudaDevice.fail(
            JCudaDriver.cuLaunchKernel(
                function, 1, 1, 1, 1, 1, 1, 0, stream, Pointer.to(new byte[8]), null),
            "cuLaunchKernel");
  }
}
