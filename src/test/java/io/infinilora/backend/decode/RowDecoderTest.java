package io.infinilora.backend.decode;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.DType;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.EnumSet;
import java.util.HexFormat;
import org.junit.jupiter.api.Test;

/**
 * Block layouts against the `gguf` Python package; make_quant_blocks.py beside the data made it.
 */
class RowDecoderTest {
  @Test
  void decodesWhatGgufDecodes() throws IOException {
    String lines;
    try (InputStream in = RowDecoderTest.class.getResourceAsStream("quant-blocks.txt")) {
      lines = new String(in.readAllBytes(), StandardCharsets.US_ASCII);
    }
    EnumSet<DType> seen = EnumSet.noneOf(DType.class);
    for (String line : lines.lines().toList()) {
      String[] fields = line.split(" ");
      DType dtype = DType.valueOf(fields[0]);
      seen.add(dtype);
      MemorySegment expected = MemorySegment.ofArray(HexFormat.of().parseHex(fields[2]));
      int n = dtype.blockElements();
      TensorView view =
          new TensorView(
              "w",
              dtype,
              new long[] {1, n},
              MemorySegment.ofArray(HexFormat.of().parseHex(fields[1])),
              "golden");
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment out = arena.allocate(4L * n, 64);
        new RowDecoder(WeightMatrix.of(view)).decode(0, out.address());
        for (int i = 0; i < n; i++) {
          float e = expected.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i);
          float a = out.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i);
          assertThat(Float.floatToIntBits(a + 0f))
              .as("%s element %d: %s, expected %s", dtype, i, a, e)
              .isEqualTo(Float.floatToIntBits(e + 0f));
        }
      }
    }
    EnumSet<DType> quantised = EnumSet.allOf(DType.class);
    // FP4 is no GGUF type.
    quantised.removeIf(d -> !d.quantised() || d == DType.FP4);
    assertThat(seen).isEqualTo(quantised);
  }
}
