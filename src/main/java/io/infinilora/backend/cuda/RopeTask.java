package io.infinilora.backend.cuda;

/**
 * What lies between the projections of a layer and its attention, checked.
 *
 * @param bound 0 for none
 * @param qNorm device address of weights, 0 for none
 * @param kNorm likewise
 * @param eps of the norms
 */
record RopeTask(
    CudaTensor q,
    CudaTensor k,
    CudaTensor v,
    CudaRopeTable table,
    float bound,
    long qNorm,
    long kNorm,
    float eps) {

  /** The arguments of rope_attention behind those of attention_decode. */
  void addTo(Launch launch) {
    launch
        .pointer(k.address())
        .int64(k.stride())
        .pointer(v.address())
        .int64(v.stride())
        .pointer(table.turns())
        .float32(table.magnitude())
        .float32(bound)
        .pointer(qNorm)
        .pointer(kNorm)
        .float32(eps);
  }
}
