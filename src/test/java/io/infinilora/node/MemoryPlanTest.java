package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.cuda.ScratchSizes;
import io.infinilora.config.ConfigLoader;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.core.Activation;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.RopeSpec;
import io.infinilora.weights.ParameterMemory;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;

/** Plans for the shape of Qwen3-30B-A3B. */
class MemoryPlanTest {
  private static final int LAYERS = 48;
  private static final int HIDDEN = 2048;
  private static final int VOCAB = 151_936;
  private static final int BLOCK_SIZE = 16;
  private static final long BLOCK_BYTES = 2L * LAYERS * 4 * 128 * BLOCK_SIZE * 2;
  private static final long GIB = 1L << 30;

  private static final ScratchSizes HOPPER = new ScratchSizes(true, 132);

  private static final ModelSpec SPEC = spec(false);

  private static ModelSpec spec(boolean tied) {
    return spec(tied, 40_960);
  }

  private static ModelSpec spec(boolean tied, int positions) {
    return new ModelSpec(
        "qwen3_moe",
        LAYERS,
        HIDDEN,
        VOCAB,
        positions,
        new ModelSpec.Attention(
            32, 4, 128, false, false, true, false, 0, Collections.nCopies(LAYERS, 0)),
        new ModelSpec.Mlp(
            768, Activation.SWIGLU, new ModelSpec.Moe(128, 8, true, true, false, false)),
        ModelSpec.Norm.RMS,
        1e-6,
        RopeSpec.plain(1e6),
        tied,
        -1,
        List.of());
  }

  private static InfiniLoraConfig config(String... settings) {
    Map<String, String> map = new HashMap<>();
    for (String setting : settings) {
      int at = setting.indexOf('=');
      map.put(setting.substring(0, at), setting.substring(at + 1));
    }
    return ConfigLoader.load(map, Optional.empty());
  }

  private static MemoryPlan plan(long budget, String... settings) {
    return MemoryPlan.of(config(settings), SPEC, HOPPER, budget, BLOCK_BYTES, BLOCK_SIZE);
  }

  @Test
  void weightsAreCountedInBf16AndNormsInFloat32() {
    long matrices =
        2L * VOCAB * HIDDEN
            + LAYERS
                * (2L * 4096 * HIDDEN
                    + 2L * 512 * HIDDEN
                    + 128L * HIDDEN
                    + 128L * 3 * 768 * HIDDEN);
    long vectors = HIDDEN + LAYERS * (2L * HIDDEN + 2 * 128);
    // The model's card says 30.5 billion parameters.
    assertThat(matrices + vectors).isBetween(30_500_000_000L, 30_550_000_000L);
    // Vectors share pieces of memory; of these a third of what they take stays empty, and the last.
    long rope = Double.BYTES * 128 / 2;
    assertThat(plan(80 * GIB).weights())
        .isEqualTo(2 * matrices + 4 * vectors + 4 * vectors / 3 + (1 << 20) + rope);
  }

  @Test
  void smallVectorsTakeWhatTheyAreAlignedTo() {
    ModelSpec narrow =
        new ModelSpec(
            "llama",
            3,
            40,
            100,
            64,
            new ModelSpec.Attention(
                2, 2, 20, false, false, false, false, 0, Collections.nCopies(3, 0)),
            new ModelSpec.Mlp(64, Activation.SWIGLU, null),
            ModelSpec.Norm.RMS,
            1e-6,
            RopeSpec.plain(1e4),
            true,
            -1,
            List.of());
    assertThat(ParameterMemory.vectorBytes(narrow, 8, 256)).isEqualTo((1 + 3 * 2) * 256);
  }

  /** Pieces of 1 MiB hold 4,096 of them, and the biases are there once more. */
  @Test
  void manySmallBiasesArePlannedFor() {
    int layers = 24;
    int experts = 128;
    ModelSpec small =
        new ModelSpec(
            "gpt_oss",
            layers,
            8,
            104,
            64,
            new ModelSpec.Attention(
                2, 2, 8, true, true, false, true, 0, Collections.nCopies(layers, 0)),
            new ModelSpec.Mlp(
                8, Activation.SWIGLU, new ModelSpec.Moe(experts, 4, false, true, true, true)),
            ModelSpec.Norm.RMS,
            1e-6,
            RopeSpec.plain(1e4),
            true,
            -1,
            List.of());
    long alone = (1 + layers * (2 + 4 + 1 + 2 + 3L * experts)) * 256;
    long pieces = Math.ceilDiv(alone, 1L << 20) << 20;
    long stacked = layers * 4 * (3 * 16 + 8 + experts + experts * 24L);
    long rope = 8 * 4;
    MemoryPlan plan = MemoryPlan.of(config(), small, HOPPER, 80 * GIB, BLOCK_BYTES, BLOCK_SIZE);
    assertThat(plan.weights())
        .isGreaterThanOrEqualTo(
            ParameterMemory.matrixBytes(small, 8, 256) + pieces + stacked + rope);
  }

  @Test
  void aTiedHeadTakesNoMemory() {
    MemoryPlan tied =
        MemoryPlan.of(config(), spec(true), HOPPER, 80 * GIB, BLOCK_BYTES, BLOCK_SIZE);
    assertThat(tied.weights()).isEqualTo(plan(80 * GIB).weights() - 2L * VOCAB * HIDDEN);
  }

  @Test
  void keysAndValuesGetWhatIsLeft() {
    MemoryPlan plan = plan(71 * GIB);
    assertThat(plan.adapters()).isEqualTo(GIB);
    assertThat(plan.workspace()).isBetween(GIB / 4, GIB);
    assertThat(plan.weights() + plan.adapters() + plan.workspace() + plan.keysAndValues())
        .isEqualTo(71 * GIB);
  }

  @Test
  void keysAndValuesGetWhatIsSet() {
    assertThat(plan(71 * GIB, "engine.kvMemory=3GiB").keysAndValues()).isEqualTo(3 * GIB);
  }

  @Test
  void adaptersAreWhereTheyAreComputed() {
    assertThat(plan(80 * GIB, "loraMode=none").adapters()).isZero();
    assertThat(plan(80 * GIB, "loraMode=coupled").adapters()).isEqualTo(GIB);
    assertThat(plan(80 * GIB, "lora.shards=2x3").adapters()).isEqualTo(6 * GIB);
    assertThat(plan(80 * GIB, "role=base").adapters()).isZero();
    MemoryPlan lora = plan(80 * GIB, "role=lora", "lora.shards=2x2", "cluster.shards=1,3");
    assertThat(lora.adapters()).isEqualTo(2 * GIB);
    assertThat(lora.weights()).isZero();
    assertThat(lora.keysAndValues()).isZero();
  }

  @Test
  void whatDoesNotFitIsRefusedWithAllNeeds() {
    assertThatThrownBy(() -> plan(40 * GIB))
        .isInstanceOf(InfiniLoraException.class)
        .extracting(e -> ((InfiniLoraException) e).code())
        .isEqualTo(ErrorCode.BAD_CONFIG);
    assertThatThrownBy(() -> plan(40 * GIB))
        .hasMessageStartingWith("the GPU memory that may be used, 40.00 GiB, is too little:")
        .hasMessageContaining("weights            56.87 GiB")
        .hasMessageContaining("adapters            1.00 GiB")
        .hasMessageContaining("keys and values     0.09 GiB  (the least");
  }

  /** Of 32 rows, the keys of each cut into 64 parts, 34 MB, instead of terms, 33.5 MB. */
  @Test
  void longContextsHaveRoomForWhatBlocksThatShareThemFind() {
    ModelSpec longer = spec(false, 1 << 18);
    long of128k = workspace(longer, "engine.contextLength=131072");
    assertThat(of128k).isGreaterThan(workspace(longer, "engine.contextLength=1024"));
    assertThat(workspace(longer, "engine.contextLength=262144")).isGreaterThan(of128k + of128k / 8);
    // Tables of 2 MiB and more grow out of their staging.
    assertThat(workspace(longer, "engine.maxRunning=256", "engine.contextLength=131072") - of128k)
        .isBetween(8L * 256 * 8192 * 4, 9L * 256 * 8192 * 4);
    // More than the KV cache holds is never computed.
    assertThat(workspace(longer, "engine.kvMemory=1GiB")).isLessThan(of128k);
  }

  @Test
  void termsOfManyRowsTakeHalfOnHopper() {
    long terms = 4L * 8192 * 8 * HIDDEN;
    long rows = 2L * 8192 * 8 * HIDDEN; // In the order of their experts.
    ScratchSizes other = new ScratchSizes(false, 132);
    long there = workspace(other, SPEC, "engine.maxBatchedTokens=8192", "loraMode=none");
    long here = workspace(HOPPER, SPEC, "engine.maxBatchedTokens=8192", "loraMode=none");
    assertThat(there - here).isEqualTo(terms - terms / 2 - rows + (16 << 20));
  }

  private static long workspace(ScratchSizes sizes, ModelSpec spec, String... settings) {
    return MemoryPlan.of(config(settings), spec, sizes, 200 * GIB, BLOCK_BYTES, BLOCK_SIZE)
        .workspace();
  }

  private static long workspace(ModelSpec spec, String... settings) {
    return MemoryPlan.of(config(settings), spec, HOPPER, 200 * GIB, BLOCK_BYTES, BLOCK_SIZE)
        .workspace();
  }

  @Test
  void aContextThatIsAskedForIsTheLeast() {
    assertThatThrownBy(() -> plan(59 * GIB, "engine.contextLength=40000"))
        .hasMessageContaining("keys and values     3.66 GiB  (the least");
    assertThatThrownBy(() -> plan(59 * GIB, "engine.kvMemory=4GiB"))
        .hasMessageContaining("keys and values     4.00 GiB  (engine.kvMemory)");
  }

  @Test
  void theLogSaysWhereMemoryGoes() {
    assertThat(plan(71 * GIB, "engine.kvMemory=6GiB").describe())
        .startsWith("device memory: 71.00 GiB may be used: weights 56.87 GiB, adapters 1.00 GiB,")
        .endsWith("keys and values 6.00 GiB");
  }
}
