package io.infinilora.backend.cpu;

import io.infinilora.backend.Backend;
import io.infinilora.backend.TransferContract;

class CpuBackendTest extends TransferContract {
  @Override
  protected Backend create() {
    return new CpuBackend();
  }
}
