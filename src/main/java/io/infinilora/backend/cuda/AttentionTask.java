package io.infinilora.backend.cuda;

import io.infinilora.backend.AttentionParams;

/**
 * What attention of a layer works on, checked.
 *
 * @param q {@code [rows, heads * headDim]}
 * @param sinks device address, 0 for none
 * @param out like q
 */
record AttentionTask(
    CudaTensor q,
    CudaKvCache cache,
    int layer,
    AttentionParams params,
    long sinks,
    CudaTensor out) {

  /** Begins a launch with the arguments that all kernels of attention begin with. */
  Launch begin(CudaStream stream, Kernel kernel, DeviceBatch batch) {
    return stream
        .launch(kernel)
        .pointer(q.address())
        .int64(q.stride())
        .pointer(batch.positions())
        .pointer(batch.tables())
        .int32(batch.tableStride())
        .int32(params.heads())
        .int32(params.kvHeads())
        .int32(params.headDim())
        .pointer(cache.layer(layer))
        .int32(cache.blockSize())
        .int32(params.window())
        .float32(params.scale())
        .pointer(sinks)
        .pointer(out.address())
        .int64(out.stride());
  }
}
