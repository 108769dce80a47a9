package io.infinilora.backend.cuda;

import io.infinilora.backend.Vec;

/**
 * A parameter vector in float32.
 *
 * @param address aligned to 16 bytes
 */
record CudaVec(CudaBackend owner, long address, int size) implements Vec {}
