package io.infinilora.backend.cuda;

import io.infinilora.backend.LoraImage;
import io.infinilora.backend.LoraLayer;
import io.infinilora.backend.LoraMemory;
import java.util.Arrays;

/** Pages in one piece of device memory. */
final class CudaLoraMemory implements LoraMemory {
  private final CudaBackend owner;
  private final DeviceMemory memory;
  private final LoraPages pages;
  private final LoraCopies copies;
  private volatile boolean closed;

  CudaLoraMemory(CudaBackend owner, CudaDevice device, long bytes) {
    if (bytes < 0 || bytes / LoraLayout.PAGE_BYTES > Integer.MAX_VALUE) {
      throw new IllegalArgumentException("no adapter memory can have " + bytes + " bytes");
    }
    this.owner = owner;
    pages = new LoraPages((int) (bytes / LoraLayout.PAGE_BYTES));
    memory = device.allocate((long) pages.pages() * LoraLayout.PAGE_BYTES, "adapters");
    copies = new LoraCopies(device);
  }

  CudaBackend owner() {
    return owner;
  }

  boolean open() {
    return !closed;
  }

  @Override
  public long pageBytes() {
    return LoraLayout.PAGE_BYTES;
  }

  @Override
  public int pages() {
    return pages.pages();
  }

  @Override
  public int freePages() {
    return pages.free();
  }

  @Override
  public LoraLayer load(LoraImage image) {
    if (!(image instanceof CudaLoraImage source) || source.owner() != owner) {
      throw new IllegalArgumentException("the image belongs to another backend");
    }
    if (closed) {
      throw new IllegalStateException("the adapter memory is closed");
    }
    int[] numbers = pages.take(source.pages());
    boolean complete = false;
    try {
      long[] addresses =
          Arrays.stream(numbers)
              .mapToLong(n -> memory.address() + (long) n * LoraLayout.PAGE_BYTES)
              .toArray();
      LoraTables tables = copies.copy(source.layout(), source.packed(), addresses);
      CudaLoraLayer layer = new CudaLoraLayer(this, numbers, source.layout(), tables);
      complete = true;
      return layer;
    } finally {
      if (!complete) {
        pages.giveBack(numbers);
      }
    }
  }

  @Override
  public void free(LoraLayer layer) {
    if (!(layer instanceof CudaLoraLayer held) || held.memory() != this) {
      throw new IllegalArgumentException("the layer is in another memory");
    }
    if (!held.end()) {
      throw new IllegalStateException("the layer was freed before");
    }
    pages.giveBack(held.numbers());
  }

  @Override
  public void close() {
    closed = true;
    copies.close();
    memory.close();
  }
}
