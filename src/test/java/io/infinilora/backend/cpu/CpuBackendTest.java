package io.infinilora.backend.cpu;

import io.infinilora.backend.Backend;
import io.infinilora.backend.LoraMemoryContract;

class CpuBackendTest extends LoraMemoryContract {
  @Override
  protected Backend create() {
    return new CpuBackend();
  }
}
