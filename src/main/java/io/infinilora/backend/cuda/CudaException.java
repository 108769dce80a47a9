package io.infinilora.backend.cuda;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.util.Set;
import jcuda.driver.CUresult;
import jcuda.driver.JCudaDriver;

/** A driver call that failed: which, what for, and what the driver says. */
public final class CudaException extends InfiniLoraException {
  private static final long serialVersionUID = 1L;

  /** {@code CUDA_ERROR_CONTAINED}, which JCuda does not know: an error in a part of the device. */
  private static final int CONTAINED = 226;

  /**
   * After these the context is of no use any more: every further call fails, until the process is
   * started again.
   */
  private static final Set<Integer> FATAL =
      Set.of(
          CUresult.CUDA_ERROR_DEINITIALIZED,
          CUresult.CUDA_ERROR_ECC_UNCORRECTABLE,
          CUresult.CUDA_ERROR_NVLINK_UNCORRECTABLE,
          CONTAINED,
          CUresult.CUDA_ERROR_ILLEGAL_ADDRESS,
          CUresult.CUDA_ERROR_LAUNCH_TIMEOUT,
          CUresult.CUDA_ERROR_CONTEXT_IS_DESTROYED,
          CUresult.CUDA_ERROR_ASSERT,
          CUresult.CUDA_ERROR_HARDWARE_STACK_ERROR,
          CUresult.CUDA_ERROR_ILLEGAL_INSTRUCTION,
          CUresult.CUDA_ERROR_MISALIGNED_ADDRESS,
          CUresult.CUDA_ERROR_INVALID_ADDRESS_SPACE,
          CUresult.CUDA_ERROR_INVALID_PC,
          CUresult.CUDA_ERROR_LAUNCH_FAILED,
          CUresult.CUDA_ERROR_UNKNOWN);

  private final int status;

  CudaException(int status, String call) {
    super(codeOf(status), call + ": " + describe(status));
    this.status = status;
  }

  private static ErrorCode codeOf(int status) {
    return isFatal(status) ? ErrorCode.UNAVAILABLE : ErrorCode.INTERNAL;
  }

  private static String describe(int status) {
    String[] text = new String[1];
    JCudaDriver.cuGetErrorString(status, text);
    String what = CUresult.stringFor(status) + (text[0] == null ? "" : " (" + text[0] + ")");
    return isFatal(status)
        ? what + "; the GPU cannot be used by this process any more: restart it"
        : what;
  }

  static boolean isFatal(int status) {
    return FATAL.contains(status);
  }

  /** The driver's {@code CUresult}. */
  public int status() {
    return status;
  }

  /** Whether the device is lost to this process. */
  public boolean deviceLost() {
    return isFatal(status);
  }
}
