package io.infinilora.weights;

import io.infinilora.core.DType;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.TensorView;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;

/** The rotation as GGUF files state it: metadata keys and the tensor {@value #FACTORS}. */
final class GgufRope {

  /** One divisor per pair, for scalings that depend on the wavelength (Llama 3.1). */
  static final String FACTORS = "rope_freqs.weight";

  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private GgufRope() {}

  /**
   * Reads the rotation.
   *
   * @param prefix architecture and dot, e.g. {@code "llama."}
   * @param truncate whether yarn rounds its correction range, of which the metadata say nothing
   */
  static RopeSpec read(
      GgufFile file, String prefix, int headDim, int maxPositions, boolean truncate) {
    GgufMetadata metadata = file.metadata();
    String dimensions = prefix + "rope.dimension_count";
    if (metadata.integer(dimensions, headDim) != headDim) {
      throw metadata.bad(dimensions, "is not the head size " + headDim + ": not supported");
    }
    String base = prefix + "rope.freq_base";
    double theta = metadata.number(base, 10000);
    if (theta <= 1) {
      throw metadata.bad(base, "is " + theta + ", but must be above 1");
    }
    RopeSpec.Scaling scaling = scaling(metadata, prefix, maxPositions, truncate);
    if (file.names().contains(FACTORS)) {
      scaling = withFactors(file, scaling, headDim);
    }
    return new RopeSpec(theta, scaling);
  }

  private static RopeSpec.Scaling scaling(
      GgufMetadata metadata, String prefix, int maxPositions, boolean truncate) {
    String factorKey = prefix + "rope.scaling.factor";
    // rope.scale_linear is the key of older files.
    double factor = metadata.number(factorKey, metadata.number(prefix + "rope.scale_linear", 1));
    if (factor <= 0) {
      throw metadata.bad(factorKey, "is " + factor + ", but must be positive");
    }
    String typeKey = prefix + "rope.scaling.type";
    String type = metadata.text(typeKey).orElse(factor == 1 ? "none" : "linear");
    return switch (type) {
      case "none" -> new RopeSpec.None();
      case "linear" -> new RopeSpec.Linear(factor);
      case "yarn" -> yarn(metadata, prefix, factor, maxPositions, truncate);
      default ->
          throw metadata.bad(typeKey, "is \"" + type + "\"; supported are none, linear and yarn");
    };
  }

  private static RopeSpec.Yarn yarn(
      GgufMetadata metadata, String prefix, double factor, int maxPositions, boolean truncate) {
    String key = prefix + "rope.scaling.";
    int original = metadata.integer(key + "original_context_length", maxPositions);
    double fast = metadata.number(key + "yarn_beta_fast", 32);
    double slow = metadata.number(key + "yarn_beta_slow", 1);
    double attention = metadata.number(key + "attn_factor", 1);
    if (original < 1 || fast <= 0 || slow <= 0 || attention <= 0) {
      throw metadata.bad(key + "*", "must be positive for yarn");
    }
    double magnitude = attention * (0.1 * Math.log(Math.max(1, factor)) + 1);
    return new RopeSpec.Yarn(factor, fast, slow, original, magnitude, truncate);
  }

  private static RopeSpec.Scaling withFactors(
      GgufFile file, RopeSpec.Scaling scaling, int headDim) {
    TensorView tensor = file.view(FACTORS);
    if (tensor.dtype() != DType.F32 || tensor.elements() != headDim / 2) {
      throw file.fault("tensor %s should be F32 with %d elements".formatted(tensor, headDim / 2));
    }
    double common =
        switch (scaling) {
          case RopeSpec.None n -> 1;
          case RopeSpec.Linear l -> l.factor();
          default -> throw file.fault("tensor " + FACTORS + " together with yarn is not supported");
        };
    List<Double> factors = new ArrayList<>();
    for (int i = 0; i < headDim / 2; i++) {
      float factor = tensor.data().getAtIndex(FLOAT, i);
      if (!(factor > 0) || Float.isInfinite(factor)) {
        throw file.fault("tensor " + FACTORS + " holds " + factor + " at " + i);
      }
      factors.add(factor * common);
    }
    return new RopeSpec.Factors(factors);
  }
}
