package io.infinilora.weights;

import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.TextAssets;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;

/**
 * A model of random weights in bf16, from a {@code config.json} alone: for benchmarks of models
 * that nobody wants to download. The same configuration and seed give the same weights.
 *
 * <p>There is one block of normally distributed numbers (deviation 0.02, as models are
 * initialised), and every parameter is a piece of it that begins somewhere else. So a model takes
 * little more host memory than its largest matrix. Norms are ones, so that activations stay in
 * bounds.
 */
final class RandomCheckpoint implements Checkpoint {
  private static final double DEVIATION = 0.02;

  /** How far pieces of the block are spread, in values. */
  private static final long SPREAD = 32L << 20;

  /** Values between two places where a piece may begin: 64 bytes. */
  private static final int STEP = 32;

  private static final int TABLE = 1 << 16;

  private final ModelSpec spec;
  private final long seed;
  private final Path config;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment block;
  private final MemorySegment ones;

  private RandomCheckpoint(ModelSpec spec, Path config, long seed) {
    this.spec = spec;
    this.config = config;
    this.seed = seed;
    long largest = 1;
    int widest = spec.hidden();
    List<Param> all = new ArrayList<>(ParamShapes.global(spec));
    all.addAll(ParamShapes.perLayer(spec));
    all.addAll(ParamShapes.perExpert(spec));
    for (Param param : all) {
      long[] shape = ParamShapes.shape(spec, param);
      largest = Math.max(largest, Arrays.stream(shape).reduce(1, Math::multiplyExact));
      widest = Math.max(widest, (int) shape[shape.length - 1]);
    }
    long spread = Math.min(SPREAD, Math.max(STEP, largest));
    long values = (largest + spread + 3) / 4 * 4;
    block = arena.allocate(2 * values, 64);
    fill(block, seed);
    ones = arena.allocate(2L * widest, 64);
    for (int i = 0; i < widest; i++) {
      ones.set(ValueLayout.JAVA_SHORT, 2L * i, bf16(1));
    }
  }

  /**
   * Reads a configuration.
   *
   * @param config a {@code config.json} or a directory with one
   * @throws io.infinilora.core.InfiniLoraException BAD_MODEL_FILE naming file and field,
   *     UNSUPPORTED_MODEL
   */
  static Checkpoint open(Path config, long seed) {
    JsonFields fields = JsonFields.read(config, ErrorCode.BAD_MODEL_FILE);
    ModelSpec spec =
        Checkpoints.architecture(fields, config)
            .fromConfig(fields, SpecialTokens.from(fields, Optional.empty()));
    return new RandomCheckpoint(spec, config, seed);
  }

  /** Draws from a table of the normal distribution's quantiles, four values per random number. */
  private static void fill(MemorySegment block, long seed) {
    short[] table = new short[TABLE];
    SplittableRandom random = new SplittableRandom(seed);
    for (int i = 0; i < TABLE; i++) {
      table[i] = bf16(random.nextGaussian() * DEVIATION);
    }
    for (long at = 0; at < block.byteSize(); at += Long.BYTES) {
      long bits = random.nextLong();
      for (int i = 0; i < 4; i++) {
        block.set(ValueLayout.JAVA_SHORT, at + 2 * i, table[(int) (bits >>> 16 * i) & 0xFFFF]);
      }
    }
  }

  private static short bf16(double value) {
    return (short) (Float.floatToRawIntBits((float) value) >>> 16);
  }

  private TensorView view(Param param, int layer, int expert) {
    long[] shape = ParamShapes.shape(spec, param);
    long values = Arrays.stream(shape).reduce(1, Math::multiplyExact);
    String name = "%s of layer %d, expert %d".formatted(param, layer, expert);
    MemorySegment data;
    switch (param) {
      case FINAL_NORM, ATTENTION_NORM, MLP_NORM, Q_NORM, K_NORM -> data = ones;
      default -> {
        long places = (block.byteSize() / 2 - values) / STEP;
        SplittableRandom place =
            new SplittableRandom(((seed * 31 + param.ordinal()) * 8191 + layer) * 8191 + expert);
        data = block.asSlice(2 * STEP * place.nextLong(Math.max(places, 1)));
      }
    }
    return new TensorView(
        name, DType.BF16, shape, data.asSlice(0, 2 * values), "random weights of " + config);
  }

  @Override
  public ModelSpec spec() {
    return spec;
  }

  @Override
  public TextAssets text() {
    return HfText.read(config.toAbsolutePath().getParent());
  }

  @Override
  public WeightMatrix matrix(Param param, int layer) {
    boolean tied = param == Param.LM_HEAD && spec.tiedEmbeddings();
    return WeightMatrix.of(view(tied ? Param.EMBEDDING : param, layer, 0));
  }

  @Override
  public WeightMatrix matrix(Param param, int layer, int expert) {
    return WeightMatrix.of(view(param, layer, expert));
  }

  @Override
  public TensorView vector(Param param, int layer) {
    return view(param, layer, 0);
  }

  @Override
  public TensorView vector(Param param, int layer, int expert) {
    return view(param, layer, expert);
  }

  @Override
  public String describe() {
    return "%s, random weights (seed %d) for %s".formatted(spec.architecture(), seed, config);
  }

  @Override
  public synchronized void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }
}
