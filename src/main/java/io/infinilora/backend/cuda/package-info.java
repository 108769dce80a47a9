/**
 * One NVIDIA GPU: kernels of our own from {@code src/main/cuda}, cuBLASLt for dense products of
 * many rows, driven through JCuda's driver API and, for the few calls that it lacks, the
 * foreign-function interface. Activations are bf16, sums float32. A device's context may be used by
 * any thread; a stream belongs to its driver thread.
 */
package io.infinilora.backend.cuda;
