package io.infinilora.backend.cuda;

import io.infinilora.backend.KvCache;
import io.infinilora.backend.KvLayout;

/**
 * Keys and values in bf16: {@code [layers][blocks][2][kvHeads][blockSize][headDim rounded up to
 * 8]}.
 *
 * @param address device address
 */
record CudaKvCache(CudaBackend owner, KvLayout layout, long address) implements KvCache {

  static CudaKvCache allocate(CudaBackend owner, KvLayout layout) {
    return new CudaKvCache(
        owner, layout, owner.device().allocate(bytes(layout), "keys and values").address());
  }

  static long bytes(KvLayout layout) {
    return Math.multiplyExact(blockBytes(layout), (long) layout.blocks() * layout.layers());
  }

  /** Bytes of one layer's keys and values of one block. */
  private static long blockBytes(KvLayout layout) {
    return 2L
        * Short.BYTES
        * layout.kvHeads()
        * layout.blockSize()
        * CudaTensor.padded(layout.headDim());
  }

  /** Device address of a layer. */
  long layer(int index) {
    return address + index * blockBytes(layout) * layout.blocks();
  }

  @Override
  public int blocks() {
    return layout.blocks();
  }

  @Override
  public int blockSize() {
    return layout.blockSize();
  }

  @Override
  public long bytesPerBlock() {
    return layout.layers() * blockBytes(layout);
  }
}
