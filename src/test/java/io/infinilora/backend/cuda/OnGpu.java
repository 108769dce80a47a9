package io.infinilora.backend.cuda;

import io.infinilora.backend.OpStream;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.reference.TestData;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;

/** A backend and a stream for each test; skipped without a GPU that can be used. */
@Tag("gpu")
abstract class OnGpu {
  private static final long BUDGET = 2L << 30;

  CudaBackend backend;
  OpStream ops;

  @BeforeEach
  void open() {
    Gpu.require();
    backend = Gpu.acquire(BUDGET);
    ops = backend.openStream("test", 1);
  }

  @AfterEach
  void close() {
    if (backend != null) {
      ops.close();
      Gpu.release(backend);
    }
  }

  void write(double[][] values, Tensor to) {
    int[] all = IntStream.range(0, to.rows()).toArray();
    ops.embed(backend.embedding(TestData.f32(values)), all, to);
  }

  Tensor upload(double[][] values) {
    Tensor t = backend.tensor(values.length, values[0].length);
    write(values, t);
    return t;
  }

  float[][] download(Tensor t) {
    float[][] rows = new float[t.rows()][t.cols()];
    for (int r = 0; r < rows.length; r++) {
      ops.read(t, r, rows[r]);
    }
    return rows;
  }
}
