package io.infinilora.backend.cuda;

import io.infinilora.backend.LoraImage;
import io.infinilora.core.LayerFactors;
import java.lang.foreign.MemorySegment;

/** A packed layer in page-locked memory, page by page as the device wants it, without tables. */
final class CudaLoraImage implements LoraImage {
  private final CudaBackend owner;
  private final LoraLayout layout;
  private final PinnedMemory packed;
  private volatile boolean closed;

  CudaLoraImage(CudaBackend owner, CudaDevice device, LayerFactors factors) {
    this.owner = owner;
    layout = new LoraLayout(factors);
    packed = device.pinned(layout.tables());
    boolean complete = false;
    try {
      LoraPacker.pack(layout, packed.segment());
      complete = true;
    } finally {
      if (!complete) {
        packed.close();
      }
    }
  }

  CudaBackend owner() {
    return owner;
  }

  LoraLayout layout() {
    return layout;
  }

  /** The matrices at their places. */
  MemorySegment packed() {
    if (closed) {
      throw new IllegalStateException("the image is closed");
    }
    return packed.segment();
  }

  @Override
  public int pages() {
    return layout.pages();
  }

  @Override
  public long bytes() {
    return layout.tables();
  }

  @Override
  public void close() {
    closed = true;
    packed.close();
  }
}
