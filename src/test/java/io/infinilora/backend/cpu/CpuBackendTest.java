package io.infinilora.backend.cpu;

import io.infinilora.backend.Backend;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.TransferContract;

class CpuBackendTest extends TransferContract {
  @Override
  protected Backend create() {
    return new CpuBackend();
  }

  @Override
  protected void write(Tensor tensor, double[][] values) {
    CpuTensor t = (CpuTensor) tensor;
    for (int r = 0; r < values.length; r++) {
      for (int c = 0; c < values[r].length; c++) {
        Memory.set(t.row(r) + 4L * c, (float) values[r][c]);
      }
    }
  }
}
