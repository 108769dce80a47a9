package io.infinilora.backend.cpu;

import io.infinilora.backend.Backend;
import io.infinilora.backend.LoraContract;

class CpuBackendTest extends LoraContract {
  @Override
  protected Backend create() {
    return new CpuBackend();
  }
}
