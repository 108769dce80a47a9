package io.infinilora.backend.cpu;

import io.infinilora.backend.Vec;

/** A parameter vector. */
record CpuVec(CpuBackend owner, long address, int size) implements Vec {}
