package io.infinilora.backend.cuda;

/** Placeholder until the operators are there. */
final class CudaBackend {}
