package io.infinilora.node;

import io.infinilora.backend.KvLayout;
import io.infinilora.backend.cpu.CpuBackend;

/** Memory of keys and values on the CPU, for tests that count blocks. */
final class KvBytes {
  private KvBytes() {}

  static long ofBlock(KvLayout block) {
    try (CpuBackend backend = new CpuBackend()) {
      return backend.kvBytes(block);
    }
  }
}
