package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Set;
import org.junit.jupiter.api.Test;

/** Work that differs in any argument has another signature. */
class SignatureTest {

  @Test
  void everyArgumentOfACopyCounts() {
    long base = 0x7f00_0000_0000L;
    assertThat(
            Set.of(
                Signature.ofCopy(base, 64, base + 256, 32, 16, 4),
                Signature.ofCopy(base + 256, 64, base, 32, 16, 4),
                Signature.ofCopy(base, 32, base + 256, 64, 16, 4),
                Signature.ofCopy(base, 64, base + 256, 48, 16, 4),
                Signature.ofCopy(base, 48, base + 256, 32, 16, 4),
                Signature.ofCopy(base, 64, base + 256, 32, 32, 2),
                Signature.ofCopy(base, 64, base + 256, 32, 16, 5)))
        .hasSize(7);
  }

  private static CudaTensor tensor(long address, int stride, boolean wide) {
    return new CudaTensor(null, address, 8, 16, stride, wide, 8);
  }

  @Test
  void everyArgumentOfAProductCounts() {
    CudaTensor x = tensor(0x1000, 16, false);
    CudaTensor y = tensor(0x2000, 16, false);
    assertThat(
            Set.of(
                Signature.ofProduct(x, 8, 0x3000, 0, 16, 16, y),
                Signature.ofProduct(y, 8, 0x3000, 0, 16, 16, x),
                Signature.ofProduct(tensor(0x1000, 24, false), 8, 0x3000, 0, 16, 16, y),
                Signature.ofProduct(x, 7, 0x3000, 0, 16, 16, y),
                Signature.ofProduct(x, 8, 0x3100, 0, 16, 16, y),
                Signature.ofProduct(x, 8, 0x3000, 0x4000, 16, 16, y),
                Signature.ofProduct(x, 8, 0x3000, 0, 8, 16, y),
                Signature.ofProduct(x, 8, 0x3000, 0, 16, 8, y),
                Signature.ofProduct(x, 8, 0x3000, 0, 16, 16, tensor(0x2000, 24, false)),
                Signature.ofProduct(x, 8, 0x3000, 0, 16, 16, tensor(0x2000, 16, true))))
        .hasSize(10);
  }
}
