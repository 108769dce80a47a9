package io.infinilora.backend.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** A packed layout in device memory of its own. */
final class OwnLoraPages implements LoraResidence {
  private final DeviceMemory memory;
  private final LoraTables tables;
  private volatile boolean freed;

  OwnLoraPages(CudaDevice device, LoraLayout layout) {
    memory = device.allocate(layout.extent(), "adapters");
    tables = new LoraTables(layout, place -> memory.address() + place);
    boolean complete = false;
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment packed = arena.allocate(Math.max(1, layout.extent()), 16);
      LoraPacker.pack(layout, packed);
      tables.write(packed.asSlice(layout.tables(), layout.extent() - layout.tables()));
      device.upload(packed, memory.address());
      complete = true;
    } finally {
      if (!complete) {
        memory.close();
      }
    }
  }

  LoraTables tables() {
    return tables;
  }

  @Override
  public boolean alive() {
    return !freed;
  }

  /** Frees the memory; no stream may use it any more. */
  void free() {
    freed = true;
    memory.close();
  }
}
