package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.function.LongUnaryOperator;

/**
 * The tables of a layer, which tell kernels where its pieces are; {@code lora.cuh} has the format.
 */
final class LoraTables {
  private final LoraLayout layout;
  private final LongUnaryOperator addresses;

  /**
   * @param addresses device address of a place of the layout
   */
  LoraTables(LoraLayout layout, LongUnaryOperator addresses) {
    this.layout = layout;
    this.addresses = addresses;
  }

  /**
   * The name of a site's table of A: its address and what a kernel must know before it reads it.
   */
  long nameA(LoraSitePlan site) {
    return addresses.applyAsLong(site.tableA()) | (long) site.rankBlocks() << 48;
  }

  /** Likewise of B; 0 for an absent target. */
  long nameB(LoraSitePlan site, int target) {
    LoraPair pair = site.pairs().get(target);
    return pair.rank() == 0
        ? 0
        : addresses.applyAsLong(site.tablesB()[target])
            | (long) LoraPieces.rankBlocks(pair.rank()) << 48
            | (long) pair.vBlock() << 56;
  }

  /** Address of a routed site's array of names. */
  long experts(LoraExpertsPlan site) {
    return addresses.applyAsLong(site.table());
  }

  /**
   * Writes all tables.
   *
   * @param into what lies behind the layout's matrices, from {@link LoraLayout#tables} on
   */
  void write(MemorySegment into) {
    layout.dense().values().forEach(site -> write(site, into));
    layout.routed().values().forEach(site -> write(site, into));
  }

  private void write(LoraExpertsPlan site, MemorySegment into) {
    long at = site.table() - layout.tables();
    for (LoraSitePlan expert : site.experts()) {
      if (expert != null) {
        write(expert, into);
        into.set(ValueLayout.JAVA_LONG, at, nameA(expert));
        for (int t = 0; t < expert.pairs().size(); t++) {
          into.set(ValueLayout.JAVA_LONG, at + Long.BYTES * (1L + t), nameB(expert, t));
        }
      }
      at += LoraLayout.EXPERT_BYTES;
    }
  }

  private void write(LoraSitePlan site, MemorySegment into) {
    long at = site.tableA() - layout.tables();
    for (LoraPieces a : site.stack()) {
      at = write(a.places(), into, at);
    }
    for (int t = 0; t < site.pairs().size(); t++) {
      LoraPair pair = site.pairs().get(t);
      if (pair.rank() > 0) {
        long head = site.tablesB()[t] - layout.tables();
        into.set(ValueLayout.JAVA_FLOAT, head, pair.scale());
        write(pair.b().places(), into, head + LoraLayout.HEAD_BYTES);
      }
    }
  }

  private long write(long[] places, MemorySegment into, long from) {
    long at = from;
    for (long place : places) {
      into.set(ValueLayout.JAVA_LONG, at, addresses.applyAsLong(place));
      at += Long.BYTES;
    }
    return at;
  }
}
