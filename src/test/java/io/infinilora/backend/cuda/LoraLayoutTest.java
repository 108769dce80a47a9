package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.DType;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraSite;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

class LoraLayoutTest {
  private static final int PAGE = LoraLayout.PAGE_BYTES;

  /** A base for addresses that are no places. */
  private static final long BASE = 0x7F00_0000_0000L;

  private long next = 1;

  /** A tensor that can be measured, but not read. */
  private WeightMatrix unreadable(int rows, int cols) {
    long bytes = DType.BF16.bytes((long) rows * cols);
    MemorySegment data = MemorySegment.ofAddress(next).reinterpret(bytes);
    next += bytes;
    return WeightMatrix.of(
        new TensorView("w", DType.BF16, new long[] {rows, cols}, data, "test data"));
  }

  private LoraFactors pair(int rank, int in, int out) {
    return new LoraFactors(unreadable(rank, in), unreadable(out, rank), rank / 8f);
  }

  private LayerFactors layer() {
    List<List<LoraFactors>> up = new ArrayList<>();
    for (int e = 0; e < 8; e++) {
      up.add(
          e == 3 ? null : Arrays.asList(pair(48, 2880, 1440), e == 5 ? null : pair(8, 2880, 700)));
    }
    return new LayerFactors(
        Map.of(
            LoraSite.ATTENTION_IN,
            Arrays.asList(pair(16, 2880, 4096), null, pair(200, 2880, 512)),
            LoraSite.ATTENTION_OUT,
            List.of(pair(512, 4096, 2880))),
        Map.of(LoraSite.MLP_IN, up, LoraSite.MLP_OUT, Collections.nCopies(8, null)));
  }

  @Test
  void piecesNeitherOverlapNorCrossPages() {
    LoraLayout layout = new LoraLayout(layer());
    TreeMap<Long, Integer> pieces = new TreeMap<>();
    for (LoraPieces a : layout.as()) {
      int chunks = LoraPieces.chunks(a.source().cols());
      for (int p = 0; p < a.places().length; p++) {
        pieces.put(a.places()[p], LoraPieces.bytesOfA(a.source().cols(), p % chunks));
      }
    }
    for (LoraPieces b : layout.bs()) {
      Arrays.stream(b.places()).forEach(p -> pieces.put(p, LoraPieces.bytesOfB(b.source().cols())));
    }
    long end = 0;
    long sum = 0;
    for (Map.Entry<Long, Integer> piece : pieces.entrySet()) {
      long first = piece.getKey();
      assertThat(first).isGreaterThanOrEqualTo(end);
      end = first + piece.getValue();
      sum += piece.getValue();
      assertThat(first / PAGE).isEqualTo((end - 1) / PAGE);
      assertThat(first % 16).isZero();
    }
    assertThat(layout.tables()).isEqualTo(end);
    assertThat(layout.bytes()).isEqualTo(sum);
    assertThat(layout.extent()).isGreaterThan(end);
    assertThat(layout.pages()).isEqualTo((int) Math.ceilDiv(layout.extent(), PAGE));
    assertThat(layout.routed()).containsOnlyKeys(LoraSite.MLP_IN);
  }

  @Test
  void tablesNameEveryPiece() {
    LoraLayout layout = new LoraLayout(layer());
    LoraTables tables = new LoraTables(layout, place -> BASE + place);
    MemorySegment written =
        MemorySegment.ofArray(new long[(int) (layout.extent() - layout.tables()) / 8]);
    tables.write(written);
    for (LoraSitePlan site : layout.dense().values()) {
      check(layout, tables, written, site);
    }
    LoraExpertsPlan experts = layout.routed().get(LoraSite.MLP_IN);
    long entry = tables.experts(experts) - BASE - layout.tables();
    for (LoraSitePlan site : experts.experts()) {
      long[] names = new long[4];
      Arrays.setAll(names, i -> 0);
      if (site != null) {
        check(layout, tables, written, site);
        names[0] = tables.nameA(site);
        names[1] = tables.nameB(site, 0);
        names[2] = tables.nameB(site, 1);
      }
      for (int i = 0; i < 4; i++) {
        assertThat(written.get(ValueLayout.JAVA_LONG, entry + 8L * i)).isEqualTo(names[i]);
      }
      entry += 32;
    }
  }

  private static void check(
      LoraLayout layout, LoraTables tables, MemorySegment written, LoraSitePlan site) {
    long nameA = tables.nameA(site);
    assertThat(nameA >>> 48).isEqualTo(site.rankBlocks());
    long at = (nameA & 0xFFFF_FFFF_FFFFL) - BASE - layout.tables();
    for (LoraPieces a : site.stack()) {
      for (long place : a.places()) {
        assertThat(written.get(ValueLayout.JAVA_LONG, at)).isEqualTo(BASE + place);
        at += 8;
      }
    }
    int block = 0;
    for (int t = 0; t < site.pairs().size(); t++) {
      LoraPair pair = site.pairs().get(t);
      long name = tables.nameB(site, t);
      if (pair.rank() == 0) {
        assertThat(name).isZero();
        continue;
      }
      assertThat(name >>> 48 & 0xFF).isEqualTo(Math.ceilDiv(pair.rank(), 16));
      assertThat(name >>> 56).isEqualTo(block);
      block += Math.ceilDiv(pair.rank(), 16);
      at = (name & 0xFFFF_FFFF_FFFFL) - BASE - layout.tables();
      assertThat(at % 16).isEqualTo(-layout.tables() % 16 + 0L);
      assertThat(written.get(ValueLayout.JAVA_FLOAT, at)).isEqualTo(pair.scale());
      for (int p = 0; p < pair.b().places().length; p++) {
        assertThat(written.get(ValueLayout.JAVA_LONG, at + 16 + 8L * p))
            .isEqualTo(BASE + pair.b().places()[p]);
      }
    }
  }

  @Test
  void targetsThatShareMatricesShareRanks() {
    LoraFactors one = pair(16, 64, 64);
    LoraFactors same = new LoraFactors(one.a(), one.b(), 3);
    LoraFactors other = pair(16, 64, 64);
    LoraLayout layout =
        new LoraLayout(
            new LayerFactors(Map.of(LoraSite.ATTENTION_IN, List.of(one, other, same)), Map.of()));
    LoraSitePlan site = layout.dense().get(LoraSite.ATTENTION_IN);
    assertThat(site.rankBlocks()).isEqualTo(2);
    assertThat(site.pairs()).extracting(LoraPair::vBlock).containsExactly(0, 1, 0);
    assertThat(layout.bs()).hasSize(2);
    assertThat(site.bytes()).isEqualTo(2 * (64 * 32 + 64 * 32));
  }

  @Test
  void refusesWhatDoesNotFit() {
    LoraFactors tall = pair(513, 64, 64);
    assertThatThrownBy(() -> dense(tall))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("rank of 513");
    assertThatThrownBy(() -> dense(pair(8, 64, 64), pair(8, 72, 64)))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("do not fit");
    LoraFactors torn = new LoraFactors(unreadable(8, 64), unreadable(64, 9), 1);
    assertThatThrownBy(() -> dense(torn)).hasMessageContaining("do not fit");
    assertThatThrownBy(
            () ->
                new LoraLayout(
                    new LayerFactors(
                        Map.of(),
                        Map.of(
                            LoraSite.MLP_OUT,
                            List.of(List.of(pair(8, 64, 64)), List.of(pair(8, 64, 72)))))))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("outputs of 64 and 72");
  }

  private static void dense(LoraFactors... pairs) {
    new LoraLayout(new LayerFactors(Map.of(LoraSite.ATTENTION_IN, Arrays.asList(pairs)), Map.of()));
  }

  @Test
  void nothingTakesNoPages() {
    LoraLayout layout =
        new LoraLayout(
            new LayerFactors(
                Map.of(LoraSite.ATTENTION_OUT, Collections.singletonList(null)),
                Map.of(LoraSite.MLP_IN, Collections.nCopies(8, null))));
    assertThat(layout.pages()).isZero();
    assertThat(layout.dense()).isEmpty();
    assertThat(layout.routed()).isEmpty();
  }
}
