package io.infinilora.backend.cpu;

import java.util.IdentityHashMap;
import java.util.List;

/**
 * Turns the places of matrices in a {@link LoraLayout} into addresses. What pairs share stays
 * shared. Not thread-safe.
 */
final class PageTable {
  private final long[] pages;
  private final long zeros;
  private final IdentityHashMap<LoraRows, LoraRows> rows = new IdentityHashMap<>();
  private final IdentityHashMap<LoraPanels, LoraPanels> panels = new IdentityHashMap<>();

  /**
   * @param pages address of each page
   * @param zeros a page of zeros, the bias of everything
   */
  PageTable(long[] pages, long zeros) {
    this.pages = pages;
    this.zeros = zeros;
  }

  LoraPair resolve(LoraPair pair) {
    if (pair.rank() == 0) {
      return pair;
    }
    LoraRows a = rows.computeIfAbsent(pair.a(), this::rows);
    LoraPanels b = panels.computeIfAbsent(pair.b(), this::panels);
    return new LoraPair(pair.rank(), a, b, pair.scale());
  }

  private LoraRows rows(LoraRows a) {
    List<LoraRows.Run> runs = a.runs().stream().map(r -> r.at(address(r.address()))).toList();
    return new LoraRows(a.rank(), a.brain(), runs);
  }

  private LoraPanels panels(LoraPanels b) {
    List<PackedMatrix> pieces =
        b.pieces().stream()
            .map(
                p ->
                    new PackedMatrix(
                        p.format(), p.out(), p.in(), address(p.address()), zeros, p.bytes()))
            .toList();
    return new LoraPanels(b.out(), pieces);
  }

  private long address(long place) {
    return pages[(int) (place / LoraLayout.PAGE_BYTES)] + place % LoraLayout.PAGE_BYTES;
  }
}
