package io.infinilora.weights;

import io.infinilora.core.RopeSpec;
import java.util.Optional;

/**
 * The rotation as Hugging Face configurations state it, in both styles: {@code rope_theta} with
 * {@code rope_scaling}, and {@code rope_parameters} with everything inside.
 */
final class HfRope {

  private HfRope() {}

  /**
   * Reads the rotation.
   *
   * @param maxPositions the original context length where the configuration names no other
   * @param absentTheta the base where the configuration names none
   */
  static RopeSpec read(JsonFields config, int maxPositions, double absentTheta) {
    Optional<JsonFields> parameters =
        config.object("rope_parameters").or(() -> config.object("rope_scaling"));
    double outerTheta = config.number("rope_theta", absentTheta);
    double theta = parameters.map(p -> p.number("rope_theta", outerTheta)).orElse(outerTheta);
    if (theta <= 1) {
      throw config.bad("rope_theta", "is " + theta + ", but must be above 1");
    }
    refusePartial(config);
    if (parameters.isEmpty()) {
      return RopeSpec.plain(theta);
    }
    JsonFields p = parameters.get();
    refusePartial(p);
    int original =
        p.optionalInteger("original_max_position_embeddings")
            .orElse(config.integer("original_max_position_embeddings", maxPositions));
    if (original < 1) {
      throw p.bad("original_max_position_embeddings", "is " + original);
    }
    // "type" is the older spelling.
    String type = p.text("rope_type").or(() -> p.text("type")).orElse("default");
    return new RopeSpec(
        theta,
        switch (type) {
          case "default" -> new RopeSpec.None();
          case "linear" -> new RopeSpec.Linear(positive(p, "factor"));
          case "llama3" -> llama3(p, original);
          case "yarn" -> yarn(p, original, maxPositions);
          default ->
              throw p.bad(
                  "rope_type",
                  "is \"" + type + "\"; supported are default, linear, llama3 and yarn");
        });
  }

  private static void refusePartial(JsonFields fields) {
    if (fields.number("partial_rotary_factor", 1) != 1) {
      throw fields.bad("partial_rotary_factor", "other than 1 is not supported");
    }
  }

  private static RopeSpec.Llama3 llama3(JsonFields p, int original) {
    double low = positive(p, "low_freq_factor");
    double high = positive(p, "high_freq_factor");
    if (high <= low) {
      throw p.bad("high_freq_factor", "is not above low_freq_factor");
    }
    return new RopeSpec.Llama3(positive(p, "factor"), low, high, original);
  }

  private static RopeSpec.Yarn yarn(JsonFields p, int original, int maxPositions) {
    double factor = p.has("factor") ? positive(p, "factor") : (double) maxPositions / original;
    double attention;
    if (p.has("attention_factor")) {
      attention = positive(p, "attention_factor");
    } else if (p.number("mscale", 0) != 0 && p.number("mscale_all_dim", 0) != 0) {
      attention =
          magnitude(factor, p.number("mscale")) / magnitude(factor, p.number("mscale_all_dim"));
    } else {
      attention = magnitude(factor, 1);
    }
    double fast = p.has("beta_fast") ? positive(p, "beta_fast") : 32;
    double slow = p.has("beta_slow") ? positive(p, "beta_slow") : 1;
    return new RopeSpec.Yarn(factor, fast, slow, original, attention, p.flag("truncate", true));
  }

  private static double magnitude(double factor, double scale) {
    return factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1;
  }

  private static double positive(JsonFields p, String key) {
    double value = p.number(key);
    if (value <= 0) {
      throw p.bad(key, "is " + value + ", but must be positive");
    }
    return value;
  }
}
