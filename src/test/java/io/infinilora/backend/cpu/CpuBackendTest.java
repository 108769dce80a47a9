package io.infinilora.backend.cpu;

import io.infinilora.backend.Backend;
import io.infinilora.backend.ExpertLoraContract;

class CpuBackendTest extends ExpertLoraContract {
  @Override
  protected Backend create() {
    return new CpuBackend();
  }
}
