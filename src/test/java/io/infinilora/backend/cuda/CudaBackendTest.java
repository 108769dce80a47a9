package io.infinilora.backend.cuda;

import io.infinilora.backend.Backend;
import io.infinilora.backend.Precision;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.TransferContract;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;

/** The contract on the first GPU; without one that can be used it is skipped, with the reason. */
@Tag("gpu")
class CudaBackendTest extends TransferContract {
  private static final long BUDGET = 4L << 30;

  @BeforeAll
  static void findGpu() {
    Gpu.require();
  }

  @Override
  protected Backend acquire() {
    return Gpu.acquire(BUDGET);
  }

  @Override
  protected void release(Backend backend) {
    Gpu.release((CudaBackend) backend);
  }

  @Override
  protected Precision precision() {
    return Precision.BF16;
  }

  @Override
  protected Backend create() {
    return new CudaBackend(0, BUDGET);
  }

  @Override
  protected void write(Tensor tensor, double[][] values) {
    CudaTensor t = (CudaTensor) tensor;
    long rowBytes = (long) t.stride() * t.elementBytes();
    try (Arena arena = Arena.ofConfined()) {
      // Row by row: between two rows of a sibling lie those of the others.
      MemorySegment row = arena.allocate((long) t.paddedCols() * t.elementBytes(), 8);
      for (int r = 0; r < values.length; r++) {
        for (int c = 0; c < values[r].length; c++) {
          float value = (float) values[r][c];
          if (t.wide()) {
            row.setAtIndex(ValueLayout.JAVA_FLOAT, c, value);
          } else {
            row.setAtIndex(ValueLayout.JAVA_SHORT, c, Bf16Rows.round(value));
          }
        }
        t.owner().device().upload(row, t.address() + r * rowBytes);
      }
    }
  }
}
