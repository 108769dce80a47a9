package io.infinilora.backend.cpu;

import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.Backend;
import io.infinilora.backend.KvLayout;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.TransferContract;
import io.infinilora.core.InfiniLoraException;
import org.junit.jupiter.api.Test;

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

  @Test
  void memoryThatIsNotThereIsToldWithItsSetting() {
    KvLayout layout = new KvLayout(1 << 10, 1 << 24, 16, 8, 128);
    assertThatThrownBy(() -> backend.kvCache(layout))
        .isInstanceOf(InfiniLoraException.class)
        .hasMessage("keys and values of 2097152.0 GiB (engine.kvMemory) cannot be allocated");
  }
}
