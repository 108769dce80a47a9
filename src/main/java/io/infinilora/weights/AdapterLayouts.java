package io.infinilora.weights;

import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.weights.LoraModule.Order;
import io.infinilora.weights.LoraModule.Stacked;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * The adapter layouts of the supported architectures. Where a version of the transformers library
 * arranged the experts of a model in another way than the next, both layouts are there.
 */
final class AdapterLayouts {

  private static final String LAYERS = "model.layers.";
  private static final String BLOCKS = "transformer.blocks.";
  private static final String FUSED_EXPERTS = "mlp.experts";
  private static final String FLAT_EXPERTS = "ffn.experts.mlp";

  private final ModelSpec spec;
  private final List<LoraModule> modules = new ArrayList<>();
  private final List<LoraModule> parameters = new ArrayList<>();

  private AdapterLayouts(ModelSpec spec) {
    this.spec = spec;
  }

  /** The layout of a model, if adapters of its architecture are supported. */
  static Optional<AdapterLayout> of(ModelSpec spec) {
    AdapterLayouts layouts = new AdapterLayouts(spec);
    return Optional.ofNullable(
        switch (spec.architecture()) {
          case "llama", "mistral", "qwen2", "qwen3" -> layouts.dense();
          case "mixtral" -> layouts.mixtral();
          case "qwen3_moe" -> layouts.qwen3Moe();
          case "gpt_oss" -> layouts.gptOss();
          case "dbrx" -> layouts.dbrx();
          default -> null;
        });
  }

  /** A module's place in a model of any supported architecture, if its name has that form. */
  static Optional<ModulePath> path(String module) {
    return ModulePath.parse(module, LAYERS).or(() -> ModulePath.parse(module, BLOCKS));
  }

  /** Whether a module's parameters are targeted by themselves in some architecture. */
  static boolean holdsParameters(ModulePath path) {
    return path.name().equals(FUSED_EXPERTS) || path.name().equals(FLAT_EXPERTS);
  }

  private AdapterLayout dense() {
    attention();
    mlp("mlp.");
    return layout(LAYERS);
  }

  /** Experts as modules, as until transformers 4, or fused, as since transformers 5. */
  private AdapterLayout mixtral() {
    attention();
    projection("block_sparse_moe.experts.%d.w1", LoraTarget.GATE);
    projection("block_sparse_moe.experts.%d.w3", LoraTarget.UP);
    projection("block_sparse_moe.experts.%d.w2", LoraTarget.DOWN);
    fusedHalves();
    return layout(LAYERS, "block_sparse_moe.gate", "mlp.gate");
  }

  /** The same two, with other names. */
  private AdapterLayout qwen3Moe() {
    attention();
    mlp("mlp.experts.%d.");
    fusedHalves();
    return layout(LAYERS, "mlp.gate");
  }

  /**
   * Fused experts whose gate and up alternate. Libraries that quantise the experts for training
   * make modules of them, with names in the plural.
   */
  private AdapterLayout gptOss() {
    attention();
    LoraSplit stripes =
        LoraSplit.outputs(LoraTarget.GATE, 0, 2, inner())
            .and(LoraSplit.outputs(LoraTarget.UP, 1, 2, inner()));
    String plural = "mlp.experts.gate_up_projs.%d";
    modules.add(LoraModule.single(plural, spec.hidden(), 2 * inner(), stripes));
    projection("mlp.experts.down_projs.%d", LoraTarget.DOWN);
    fused(Order.IN_OUT, stripes);
    return layout(LAYERS, "mlp.router");
  }

  private AdapterLayout dbrx() {
    int q = spec.outWidth(LoraTarget.Q);
    int kv = spec.outWidth(LoraTarget.K);
    LoraSplit qkv =
        LoraSplit.outputs(LoraTarget.Q, 0, 1, q)
            .and(LoraSplit.outputs(LoraTarget.K, q, 1, kv))
            .and(LoraSplit.outputs(LoraTarget.V, q + kv, 1, kv));
    String attention = "norm_attn_norm.attn.";
    modules.add(LoraModule.single(attention + "Wqkv", spec.hidden(), q + 2 * kv, qkv));
    projection(attention + "out_proj", LoraTarget.O);
    flat("w1", LoraSplit.flattened(LoraTarget.GATE, experts(), inner()));
    flat("v1", LoraSplit.flattened(LoraTarget.UP, experts(), inner()));
    flat("w2", LoraSplit.flattenedInputs(LoraTarget.DOWN, experts(), inner()));
    return layout(BLOCKS, "ffn.router");
  }

  private AdapterLayout layout(String layers, String... routers) {
    return AdapterLayout.of(layers, modules, parameters, List.of(routers));
  }

  private void attention() {
    projection("self_attn.q_proj", LoraTarget.Q);
    projection("self_attn.k_proj", LoraTarget.K);
    projection("self_attn.v_proj", LoraTarget.V);
    projection("self_attn.o_proj", LoraTarget.O);
  }

  private void mlp(String prefix) {
    projection(prefix + "gate_proj", LoraTarget.GATE);
    projection(prefix + "up_proj", LoraTarget.UP);
    projection(prefix + "down_proj", LoraTarget.DOWN);
  }

  private void projection(String name, LoraTarget target) {
    int in = spec.inWidth(target.site());
    modules.add(LoraModule.single(name, in, spec.outWidth(target), LoraSplit.whole(target)));
  }

  private void fusedHalves() {
    fused(
        Order.OUT_IN,
        LoraSplit.outputs(LoraTarget.GATE, 0, 1, inner())
            .and(LoraSplit.outputs(LoraTarget.UP, inner(), 1, inner())));
  }

  private void fused(Order order, LoraSplit gateUp) {
    Stacked stacked = new Stacked(experts(), order);
    int in = spec.inWidth(LoraSite.MLP_IN);
    String gateUpName = FUSED_EXPERTS + ".gate_up_proj";
    parameters.add(new LoraModule(gateUpName, in, 2 * inner(), stacked, gateUp));
    LoraSplit down = LoraSplit.whole(LoraTarget.DOWN);
    parameters.add(
        new LoraModule(FUSED_EXPERTS + ".down_proj", inner(), spec.hidden(), stacked, down));
  }

  private void flat(String name, LoraSplit split) {
    String fullName = FLAT_EXPERTS + "." + name;
    parameters.add(LoraModule.single(fullName, spec.hidden(), experts() * inner(), split));
  }

  private int inner() {
    return spec.mlp().intermediate();
  }

  private int experts() {
    return spec.mlp().moe().experts();
  }
}
