package io.infinilora.backend;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.DType;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraSite;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Adapters in pages. */
public abstract class LoraMemoryContract extends ExpertLoraContract {
  private static final int IN = 96;

  private LayerFactors layer(DType dtype, int rank, int in, int out) {
    return new LayerFactors(
        Map.of(
            LoraSite.ATTENTION_IN,
            Arrays.asList(pair(dtype, rank, in, out, 2), null, pair(dtype, rank, in, 40, 3)),
            LoraSite.ATTENTION_OUT,
            List.of(pair(dtype, rank, out, in, 0.5f))),
        Map.of());
  }

  private LoraLayer load(LoraMemory memory, LayerFactors factors) {
    try (LoraImage image = backend.loraImage(factors)) {
      assertThat(image.pages()).isEqualTo(backend.loraPages(factors));
      int free = memory.freePages();
      LoraLayer layer = memory.load(image);
      assertThat(layer.pages()).isEqualTo(image.pages());
      assertThat(memory.freePages()).isEqualTo(free - image.pages());
      return layer;
    }
  }

  /** Loads with a hole before every page, so that no two pages of the layer are neighbours. */
  private LoraLayer loadScattered(LoraMemory memory, LayerFactors factors) {
    // A layer of one page each, of which every second goes again.
    LayerFactors small = layer(DType.F32, 1, 8, 8);
    assertThat(backend.loraPages(small)).isEqualTo(1);
    List<LoraLayer> fillers = new ArrayList<>();
    for (int i = 0; i < 2 * backend.loraPages(factors); i++) {
      fillers.add(load(memory, small));
    }
    for (int i = 0; i < fillers.size(); i += 2) {
      memory.free(fillers.get(i));
    }
    LoraLayer layer = load(memory, factors);
    for (int i = 1; i < fillers.size(); i += 2) {
      memory.free(fillers.get(i));
    }
    return layer;
  }

  private float[][] sum(LoraWeights weights, Tensor x, int... outs) {
    Tensor[] to = new Tensor[outs.length];
    Arrays.setAll(to, t -> outs[t] == 0 ? null : backend.tensor(x.rows(), outs[t]));
    int[] rows = new int[x.rows()];
    Arrays.setAll(rows, i -> i);
    ops.loraAdd(new RowGroups(rows, new int[] {0, rows.length}), List.of(weights), x, to);
    List<float[]> all = new ArrayList<>();
    Arrays.stream(to).filter(t -> t != null).forEach(t -> all.addAll(List.of(download(t))));
    return all.toArray(float[][]::new);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "F16", "BF16"})
  void pagesHoldWhatWasPacked(DType dtype) {
    try (LoraMemory memory = backend.loraMemory(64L << 20)) {
      // Four rows of 6000 are wider than a page in float32; ranks up to a page per panel of B.
      for (int rank : new int[] {1, 9, 512}) {
        for (int in : rank == 512 ? new int[] {45} : new int[] {45, 700, 6000}) {
          LayerFactors factors = layer(dtype, rank, in, 300);
          LoraLayer layer = loadScattered(memory, factors);
          Tensor x = upload(data.matrix(5, in, 1));
          LoraWeights own = backend.loraWeights(factors.dense().get(LoraSite.ATTENTION_IN));
          LoraWeights paged = layer.weights(LoraSite.ATTENTION_IN);
          assertThat(paged.rank(0)).isEqualTo(rank);
          assertThat(paged.rank(1)).isZero();
          assertThat(paged.in()).isEqualTo(in);
          assertThat(paged.bytes()).isEqualTo(own.bytes());
          assertThat(sum(paged, x, 300, 0, 40)).isDeepEqualTo(sum(own, x, 300, 0, 40));
          Tensor y = upload(data.matrix(5, 300, 1));
          LoraWeights ownOut = backend.loraWeights(factors.dense().get(LoraSite.ATTENTION_OUT));
          assertThat(sum(layer.weights(LoraSite.ATTENTION_OUT), y, in))
              .isDeepEqualTo(sum(ownOut, y, in));
          assertThat(layer.weights(LoraSite.MLP_IN)).isNull();
          assertThat(layer.expertWeights(LoraSite.MLP_IN)).isNull();
          backend.free(own);
          backend.free(ownOut);
          memory.free(layer);
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "F16", "BF16"})
  void pagesHoldExperts(DType dtype) {
    int hidden = 120;
    int inner = 72;
    int rank = 40;
    int topK = 3;
    List<List<LoraFactors>> up = new ArrayList<>();
    List<List<LoraFactors>> down = new ArrayList<>();
    // One A for all experts, a stack of B, as fused experts have them.
    WeightMatrix a = data.weights(dtype, rank, hidden);
    for (int e = 0; e < EXPERTS; e++) {
      up.add(
          e == 1
              ? null
              : List.of(
                  new LoraFactors(a, data.weights(dtype, inner, rank), 2),
                  pair(dtype, 1 + 8 * e, hidden, inner, 3)));
      down.add(Collections.singletonList(e == 3 ? null : pair(dtype, rank, inner, hidden, 2)));
    }
    LayerFactors factors =
        new LayerFactors(Map.of(), Map.of(LoraSite.MLP_IN, up, LoraSite.MLP_OUT, down));
    ModelSpec.Moe moe = moe(topK, true, true);
    Routing routing = route(logits(9, Load.SPREAD), moe);
    Tensor x = upload(data.matrix(9, hidden, 1));
    Tensor mid = upload(data.matrix(9 * topK, inner, 1));
    int[] rows = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    RowGroups one = new RowGroups(rows, new int[] {0, 9});
    ExpertLoraWeights ownUp = backend.expertLoraWeights(up);
    ExpertLoraWeights ownDown = backend.expertLoraWeights(down);
    try (LoraMemory memory = backend.loraMemory(16L << 20)) {
      LoraLayer layer = loadScattered(memory, factors);
      ExpertLoraWeights pagedUp = layer.expertWeights(LoraSite.MLP_IN);
      assertThat(pagedUp.experts()).isEqualTo(EXPERTS);
      assertThat(pagedUp.rank(0, 0)).isEqualTo(rank);
      assertThat(pagedUp.rank(1, 0)).isZero();
      assertThat(pagedUp.bytes()).isEqualTo(ownUp.bytes());
      List<float[][]> results = new ArrayList<>();
      for (ExpertLoraWeights w : List.of(ownUp, pagedUp)) {
        Tensor gate = backend.tensor(9 * topK, inner);
        Tensor other = backend.tensor(9 * topK, inner);
        ops.expertLoraAdd(one, List.of(w), routing, x, gate, other);
        results.add(download(gate));
        results.add(download(other));
      }
      for (ExpertLoraWeights w : List.of(ownDown, layer.expertWeights(LoraSite.MLP_OUT))) {
        Tensor sum = backend.tensor(9, hidden);
        ops.expertLoraCombine(one, List.of(w), routing, mid, sum);
        results.add(download(sum));
      }
      assertThat(results.get(2)).isDeepEqualTo(results.get(0));
      assertThat(results.get(3)).isDeepEqualTo(results.get(1));
      assertThat(results.get(5)).isDeepEqualTo(results.get(4));
    }
    backend.free(ownUp);
    backend.free(ownDown);
  }

  @Test
  void layersOfAnyRankFitAsLongAsPagesSuffice() {
    Random random = new Random(3);
    List<LoraImage> images = new ArrayList<>();
    for (int rank : new int[] {1, 8, 16, 33, 64, 200, 512}) {
      images.add(backend.loraImage(layer(DType.BF16, rank, 600, 600)));
      images.add(backend.loraImage(layer(DType.F32, rank, 64, 1000)));
    }
    try (LoraMemory memory = backend.loraMemory(20L << 20)) {
      Deque<LoraLayer> held = new ArrayDeque<>();
      int refused = 0;
      for (int i = 0; i < 3000; i++) {
        LoraImage image = images.get(random.nextInt(images.size()));
        if (image.pages() <= memory.freePages()) {
          held.add(memory.load(image));
        } else {
          int free = memory.freePages();
          assertThatThrownBy(() -> memory.load(image)).isInstanceOf(IllegalStateException.class);
          assertThat(memory.freePages()).isEqualTo(free);
          refused++;
        }
        while (!held.isEmpty() && random.nextInt(3) == 0) {
          LoraLayer any = random.nextBoolean() ? held.removeFirst() : held.removeLast();
          memory.free(any);
        }
        int used = held.stream().mapToInt(LoraLayer::pages).sum();
        assertThat(memory.freePages()).isEqualTo(memory.pages() - used);
      }
      assertThat(refused).isPositive();
      held.forEach(memory::free);
      assertThat(memory.freePages()).isEqualTo(memory.pages());
    }
    images.forEach(LoraImage::close);
  }

  @Test
  void pagesAreCountedWithoutTouchingValues() {
    LayerFactors gone;
    try (Arena arena = Arena.ofConfined()) {
      gone =
          new LayerFactors(
              Map.of(
                  LoraSite.ATTENTION_OUT,
                  List.of(new LoraFactors(weights(arena, 16, 500), weights(arena, 300, 16), 1))),
              Map.of());
    }
    assertThat(backend.loraPages(gone)).isPositive();
    assertThatThrownBy(() -> backend.loraImage(gone)).isInstanceOf(IllegalStateException.class);
  }

  private static WeightMatrix weights(Arena arena, int rows, int cols) {
    long[] shape = {rows, cols};
    return WeightMatrix.of(
        new TensorView("w", DType.F32, shape, arena.allocate(4L * rows * cols), "test data"));
  }

  @Test
  void sharedFactorsTakePagesOnce() {
    LoraFactors one = pair(DType.F32, 64, 600, 600, 2);
    LoraFactors same = new LoraFactors(one.a(), one.b(), 3);
    LoraFactors other = pair(DType.F32, 64, 600, 600, 2);
    int single = backend.loraPages(attention(Arrays.asList(one, null, null)));
    assertThat(backend.loraPages(attention(Arrays.asList(one, same, null)))).isEqualTo(single);
    assertThat(backend.loraPages(attention(Arrays.asList(one, other, null)))).isGreaterThan(single);
  }

  private static LayerFactors attention(List<LoraFactors> pairs) {
    return new LayerFactors(Map.of(LoraSite.ATTENTION_IN, pairs), Map.of());
  }

  @Test
  void nothingTakesNoPages() {
    LayerFactors nothing = new LayerFactors(Map.of(), Map.of());
    LayerFactors absent =
        new LayerFactors(
            Map.of(LoraSite.ATTENTION_OUT, Collections.singletonList(null)),
            Map.of(LoraSite.MLP_IN, Collections.nCopies(EXPERTS, null)));
    try (LoraMemory memory = backend.loraMemory(0)) {
      assertThat(memory.pages()).isZero();
      for (LayerFactors factors : List.of(nothing, absent)) {
        assertThat(backend.loraPages(factors)).isZero();
        LoraLayer layer = load(memory, factors);
        assertThat(layer.weights(LoraSite.ATTENTION_OUT)).isNull();
        assertThat(layer.expertWeights(LoraSite.MLP_IN)).isNull();
        memory.free(layer);
      }
      LayerFactors some = layer(DType.F32, 1, 8, 8);
      assertThatThrownBy(() -> load(memory, some))
          .isInstanceOf(IllegalStateException.class)
          .hasMessageContaining("1 pages, but 0 of 0");
    }
    try (LoraMemory memory = backend.loraMemory(0)) {
      try (LoraMemory odd = backend.loraMemory(3 * memory.pageBytes() - 1)) {
        assertThat(odd.pages()).isEqualTo(2);
      }
    }
    assertThatThrownBy(() -> backend.loraMemory(-1)).isInstanceOf(IllegalArgumentException.class);
  }

  @Test
  void freedLayersAreRefused() {
    Tensor x = upload(data.matrix(1, IN, 1));
    LoraWeights orphan;
    try (LoraMemory memory = backend.loraMemory(1 << 20);
        LoraMemory another = backend.loraMemory(1 << 20)) {
      LoraLayer layer = load(memory, layer(DType.F32, 4, IN, 30));
      LoraWeights weights = layer.weights(LoraSite.ATTENTION_IN);
      assertThatThrownBy(() -> another.free(layer)).isInstanceOf(IllegalArgumentException.class);
      assertThatThrownBy(() -> backend.free(weights)).isInstanceOf(IllegalArgumentException.class);
      sum(weights, x, 30, 0, 40);
      memory.free(layer);
      assertThatThrownBy(() -> sum(weights, x, 30, 0, 40))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageContaining("freed");
      int free = memory.freePages();
      assertThatThrownBy(() -> memory.free(layer)).isInstanceOf(IllegalStateException.class);
      assertThat(memory.freePages()).isEqualTo(free);
      orphan = load(memory, layer(DType.F32, 4, IN, 30)).weights(LoraSite.ATTENTION_IN);
    }
    assertThatThrownBy(() -> sum(orphan, x, 30, 0, 40)).hasMessageContaining("freed");
  }

  @Test
  void foreignAndClosedImagesAreRefused() {
    LayerFactors factors = layer(DType.F32, 4, IN, 30);
    try (Backend other = create();
        LoraMemory memory = backend.loraMemory(1 << 20);
        LoraImage foreign = other.loraImage(factors)) {
      assertThatThrownBy(() -> memory.load(foreign))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageContaining("another backend");
      LoraImage closed = backend.loraImage(factors);
      closed.close();
      closed.close();
      assertThatThrownBy(() -> memory.load(closed)).isInstanceOf(IllegalStateException.class);
      assertThat(memory.freePages()).isEqualTo(memory.pages());
    }
  }

  @Test
  void misfitsAreRefusedBeforeAnythingIsLoaded() {
    LoraFactors tall = pair(DType.F32, 4096, 8, 8, 1);
    assertThatThrownBy(() -> backend.loraPages(attention(Arrays.asList(tall, null, null))))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("rank of 4096");
    LayerFactors uneven =
        attention(Arrays.asList(pair(DType.F32, 4, 8, 8, 1), pair(DType.F32, 4, 9, 8, 1), null));
    assertThatThrownBy(() -> backend.loraImage(uneven))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("do not fit");
  }
}
