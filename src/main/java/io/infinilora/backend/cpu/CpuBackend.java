package io.infinilora.backend.cpu;

import io.infinilora.backend.Backend;
import io.infinilora.backend.Embedding;
import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.KvLayout;
import io.infinilora.backend.LoraImage;
import io.infinilora.backend.LoraMemory;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Projection;
import io.infinilora.backend.RopeTable;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Signal;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;
import io.infinilora.backend.decode.RowDecoder;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;

/**
 * The machine's processor and its memory. Needs the module {@code jdk.incubator.vector}. Closing
 * frees all memory at once: streams must be closed before, since operators do not check on each
 * access.
 */
public final class CpuBackend implements Backend {
  private final Arena arena = Arena.ofShared();
  private final long zeros = allocate(LoraLayout.PAGE_BYTES);
  private final long spinNanos;

  /**
   * A backend whose waiters spin briefly before they park: there is a processor for each thread.
   */
  public CpuBackend() {
    this(true);
  }

  /**
   * A backend.
   *
   * @param spin whether waiters spin briefly before they park; where threads outnumber processors,
   *     spinning takes time from those who are waited for
   */
  public CpuBackend(boolean spin) {
    this.spinNanos = spin ? CpuSignal.SPIN_NANOS : 0;
  }

  @Override
  public String describe() {
    return "CPU: %s, %d-bit vectors, %d processors"
        .formatted(
            System.getProperty("os.arch"),
            Memory.F.vectorBitSize(),
            Runtime.getRuntime().availableProcessors());
  }

  /** Zeroed memory that lives as long as the backend, with a vector of readable padding. */
  long allocate(long bytes) {
    return segment(bytes).address();
  }

  private MemorySegment segment(long bytes) {
    return arena.allocate(
        Math.addExact(bytes, Memory.VECTOR_BYTES), Math.max(Memory.ALIGNMENT, Memory.VECTOR_BYTES));
  }

  /** A page of zeros: the bias of whatever panels fit a page. */
  long zeros() {
    return zeros;
  }

  /** Throws once the backend is closed. */
  void checkOpen() {
    if (!arena.scope().isAlive()) {
      throw new IllegalStateException("the CPU backend is closed");
    }
  }

  @Override
  public Tensor tensor(int rows, int cols) {
    if (rows < 0 || cols < 1) {
      throw new IllegalArgumentException("no tensor can be [" + rows + ", " + cols + "]");
    }
    long bytes = Math.multiplyExact((long) rows * cols, Float.BYTES);
    return new CpuTensor(this, allocate(bytes), rows, cols, rows);
  }

  @Override
  public Vec vec(TensorView view) {
    int size = Math.toIntExact(view.elements());
    long address = allocate(4L * size);
    RowDecoder decoder = new RowDecoder(WeightMatrix.of(view));
    try {
      for (int r = 0; r < view.rows(); r++) {
        decoder.decode(r, address + 4L * r * view.cols());
      }
    } catch (InternalError e) {
      throw view.unreadable(e);
    }
    return new CpuVec(this, address, size);
  }

  @Override
  public Embedding embedding(TensorView table) {
    return new MappedEmbedding(this, WeightMatrix.of(table));
  }

  @Override
  public Projection projection(Embedding table) {
    WeightMatrix matrix = new Checks(this).embedding(table).table();
    return projection(List.of(matrix), Collections.singletonList(null));
  }

  @Override
  public Projection projection(List<WeightMatrix> weights, List<Vec> biases) {
    if (weights.isEmpty() || weights.size() != biases.size()) {
      throw new IllegalArgumentException(
          weights.size() + " matrices with " + biases.size() + " biases");
    }
    for (int i = 0; i < weights.size(); i++) {
      WeightMatrix w = weights.get(i);
      if (w.cols() != weights.getFirst().cols()) {
        throw new IllegalArgumentException(
            w.tensor() + " does not share the input of " + weights.getFirst().tensor());
      }
      if (biases.get(i) != null && biases.get(i).size() != w.rows()) {
        throw new IllegalArgumentException(
            "bias of " + biases.get(i).size() + " for " + w.tensor());
      }
    }
    List<PackedMatrix> packed = new ArrayList<>();
    for (int i = 0; i < weights.size(); i++) {
      WeightMatrix w = weights.get(i);
      long bias = allocate(PackedMatrix.panels(w.rows()) * TileKernels.PANEL_BYTES);
      if (biases.get(i) != null) {
        Memory.copy(((CpuVec) biases.get(i)).address(), bias, 4L * w.rows());
      }
      packed.add(MatrixPacker.pack(w, allocate(MatrixPacker.bytes(w)), bias));
    }
    return new PackedProjection(this, List.copyOf(packed));
  }

  @Override
  public LoraWeights loraWeights(List<LoraFactors> targets) {
    checkOpen();
    LoraLayout layout = new LoraLayout();
    DensePairs site = layout.dense(targets);
    PackedPages pages = new PackedPages(layout);
    return new CpuLoraWeights(this, pages, site.resolved(pages.table(zeros)));
  }

  @Override
  public void free(LoraWeights weights) {
    free(((CpuLoraWeights) weights).residence());
  }

  @Override
  public ExpertProjection expertProjection(
      List<List<WeightMatrix>> experts, List<List<Vec>> biases) {
    return PackedExperts.pack(this, experts, biases);
  }

  @Override
  public ExpertLoraWeights expertLoraWeights(List<List<LoraFactors>> experts) {
    checkOpen();
    LoraLayout layout = new LoraLayout();
    ExpertPairs site = layout.experts(experts);
    PackedPages pages = new PackedPages(layout);
    return new CpuExpertLoraWeights(this, pages, site.resolved(pages.table(zeros)));
  }

  @Override
  public void free(ExpertLoraWeights weights) {
    free(((CpuExpertLoraWeights) weights).residence());
  }

  private static void free(LoraResidence residence) {
    if (!(residence instanceof PackedPages pages)) {
      throw new IllegalArgumentException("the weights go with their layer");
    }
    pages.free();
  }

  @Override
  public LoraMemory loraMemory(long bytes) {
    checkOpen();
    return new CpuLoraMemory(this, bytes);
  }

  @Override
  public int loraPages(LayerFactors factors) {
    return CpuLoraImage.layout(factors, new HashMap<>(), new HashMap<>()).pages();
  }

  @Override
  public LoraImage loraImage(LayerFactors factors) {
    checkOpen();
    return new CpuLoraImage(this, factors);
  }

  @Override
  public Routing routing(int rows, int topK, int experts) {
    return new CpuRouting(this, rows, topK, experts);
  }

  @Override
  public long kvBytes(KvLayout layout) {
    return CpuKvCache.bytes(layout);
  }

  @Override
  public KvCache kvCache(KvLayout layout) {
    try {
      return new CpuKvCache(this, layout);
    } catch (OutOfMemoryError e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "keys and values of %.1f GiB (engine.kvMemory) cannot be allocated"
              .formatted(kvBytes(layout) / (double) (1L << 30)),
          e);
    }
  }

  @Override
  public RopeTable ropeTable(RopeSpec rope, int headDim) {
    if (headDim < 2 || headDim % 2 != 0) {
      throw new IllegalArgumentException("heads of " + headDim + " elements cannot be rotated");
    }
    return new CpuRopeTable(this, rope, headDim);
  }

  @Override
  public Signal signal() {
    return new CpuSignal(segment(2L * Memory.ALIGNMENT), spinNanos);
  }

  @Override
  public OpStream openStream(String name, int threads) {
    if (threads < 1) {
      throw new IllegalArgumentException("a stream needs at least one thread, not " + threads);
    }
    checkOpen();
    return new CpuOpStream(this, name, threads);
  }

  @Override
  public void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }
}
