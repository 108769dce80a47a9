package io.infinilora.backend.cpu;

import io.infinilora.backend.Backend;
import io.infinilora.backend.SamplingContract;

class CpuBackendTest extends SamplingContract {
  @Override
  protected Backend create() {
    return new CpuBackend();
  }
}
