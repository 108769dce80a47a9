package io.infinilora.backend.cpu;

import io.infinilora.backend.KvCache;
import io.infinilora.backend.KvLayout;

/**
 * Keys and values in float32. A block of one layer and head holds its keys transposed, {@code
 * [headDim][positions]}, so that scores have positions as lanes, then its values {@code
 * [positions][headDim]}, so that outputs have elements as lanes: neither product needs a sum across
 * lanes. Positions are padded to whole vectors, and the values' head dimension to whole panels.
 */
final class CpuKvCache implements KvCache {
  private final CpuBackend owner;
  private final KvLayout layout;
  private final int positionStride;
  private final int valueStride;
  private final long keyBytes;
  private final long headBytes;
  private final long layerBytes;
  private final long address;

  CpuKvCache(CpuBackend owner, KvLayout layout) {
    this.owner = owner;
    this.layout = layout;
    this.positionStride = Memory.roundUp(layout.blockSize(), Memory.LANES);
    this.valueStride = Memory.roundUp(layout.headDim(), TileKernels.PANEL);
    this.keyBytes = (long) layout.headDim() * positionStride * Float.BYTES;
    this.headBytes = headBytes(layout);
    this.layerBytes = Math.multiplyExact((long) layout.blocks() * layout.kvHeads(), headBytes);
    this.address = owner.allocate(bytes(layout));
  }

  /** Bytes of a cache of this shape, padding included. */
  static long bytes(KvLayout layout) {
    long heads = Math.multiplyExact((long) layout.layers() * layout.kvHeads(), layout.blocks());
    return Math.multiplyExact(heads, headBytes(layout));
  }

  private static long headBytes(KvLayout layout) {
    long keys = (long) layout.headDim() * Memory.roundUp(layout.blockSize(), Memory.LANES);
    long values = (long) layout.blockSize() * Memory.roundUp(layout.headDim(), TileKernels.PANEL);
    return (keys + values) * Float.BYTES;
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
    return headBytes * layout.kvHeads() * layout.layers();
  }

  CpuBackend owner() {
    return owner;
  }

  KvLayout layout() {
    return layout;
  }

  /** Positions per block including padding: elements between two rows of the transposed keys. */
  int positionStride() {
    return positionStride;
  }

  /** Elements between the values of two positions. */
  int valueStride() {
    return valueStride;
  }

  /** Address of a block's keys. */
  long keys(int layer, int block, int kvHead) {
    return address + layer * layerBytes + ((long) block * layout.kvHeads() + kvHead) * headBytes;
  }

  /** Address of a block's values. */
  long values(int layer, int block, int kvHead) {
    return keys(layer, block, kvHead) + keyBytes;
  }
}
