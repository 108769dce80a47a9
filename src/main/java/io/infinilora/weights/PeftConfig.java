package io.infinilora.weights;

import com.fasterxml.jackson.databind.JsonNode;
import io.infinilora.core.ErrorCode;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.function.Predicate;
import java.util.regex.PatternSyntaxException;

/**
 * What an {@code adapter_config.json} says about ranks, scales and targets. Settings under which
 * the adapter would compute something other than {@code W + scale B A} are refused; the many that
 * only concern training are passed over.
 */
final class PeftConfig {

  static final String TARGET_PARAMETERS = "target_parameters";
  private static final String TARGET_MODULES = "target_modules";

  /** Settings that must be absent, false or empty. */
  private static final List<String> REFUSED =
      List.of(
          "use_dora",
          "modules_to_save",
          "lora_bias",
          "layer_replication",
          "fan_in_fan_out",
          "trainable_token_indices",
          "alora_invocation_tokens",
          "use_qalora",
          "use_bdlora",
          "arrow_config",
          "kasa_config",
          "monteclora_config");

  /** Initialisations that also change the base weights, which are then not the published ones. */
  private static final List<String> REFUSED_INITS =
      List.of("pissa", "olora", "corda", "loftq", "lora_ga");

  /** Rank of a module and factor of its {@code B A}. */
  record Scaling(int rank, float scale) {}

  private final JsonFields fields;
  private final int rank;
  private final double alpha;
  private final boolean rankStabilised;
  private final PatternValues ranks;
  private final PatternValues alphas;
  private final ModulePattern.Effort effort = new ModulePattern.Effort();

  private PeftConfig(JsonFields fields) {
    this.fields = fields;
    refuseOtherKinds();
    rank = checkedRank("r", fields.number("r"));
    alpha = fields.number("lora_alpha");
    rankStabilised = fields.flag("use_rslora", false);
    fields.numbers("rank_pattern").values().forEach(r -> checkedRank("rank_pattern", r));
    ranks = overrides("rank_pattern");
    alphas = overrides("alpha_pattern");
  }

  /**
   * Reads a configuration.
   *
   * @throws io.infinilora.core.InfiniLoraException BAD_ADAPTER naming file and key
   */
  static PeftConfig read(Path file) {
    return new PeftConfig(JsonFields.read(file, ErrorCode.BAD_ADAPTER));
  }

  private void refuseOtherKinds() {
    String type = fields.text("peft_type").orElseThrow(() -> fields.bad("peft_type", "is missing"));
    if (!type.equals("LORA")) {
      throw fields.bad("peft_type", "is \"" + type + "\"; supported is LORA");
    }
    String bias = fields.text("bias").orElse("none");
    if (!bias.equals("none")) {
      throw fields.bad("bias", "is \"" + bias + "\"; supported is none");
    }
    for (String key : REFUSED) {
      if (set(fields.raw(key))) {
        throw fields.bad(key, "is set, which is not supported");
      }
    }
    JsonNode init = fields.raw("init_lora_weights");
    if (init.isTextual()) {
      String name = init.textValue().toLowerCase(Locale.ROOT);
      if (REFUSED_INITS.stream().anyMatch(name::startsWith)) {
        throw fields.bad(
            "init_lora_weights", "is \"" + name + "\", which changes the base weights");
      }
    }
  }

  private static boolean set(JsonNode value) {
    if (value.isMissingNode() || value.isNull()) {
      return false;
    }
    return value.isContainerNode() ? !value.isEmpty() : !value.isBoolean() || value.booleanValue();
  }

  private int checkedRank(String key, double value) {
    if (value != Math.rint(value) || value < 1 || value > PeftAdapter.MAX_RANK) {
      throw fields.bad(
          key,
          "has the rank " + value + ", but ranks are whole and from 1 to " + PeftAdapter.MAX_RANK);
    }
    return (int) value;
  }

  private PatternValues overrides(String key) {
    PatternValues result = new PatternValues();
    fields
        .numbers(key)
        .forEach(
            (pattern, value) -> checkedPattern(key, pattern, () -> result.add(pattern, value)));
    return result;
  }

  private void checkedPattern(String key, String expression, Runnable compile) {
    try {
      compile.run();
    } catch (PatternSyntaxException e) {
      throw fields.bad(
          key, "has the unusable expression \"" + expression + "\": " + e.getDescription());
    }
  }

  private OptionalDouble value(String key, PatternValues values, String module) {
    try {
      return values.of(module, effort);
    } catch (ModulePattern.TooExpensiveException e) {
      throw fields.bad(key, e.getMessage());
    }
  }

  /** Rank and scale of a module or parameter, by its name in the model. */
  Scaling scaling(String module) {
    double r = value("rank_pattern", ranks, module).orElse(rank);
    double numerator = value("alpha_pattern", alphas, module).orElse(alpha);
    float scale = (float) (numerator / (rankStabilised ? Math.sqrt(r) : r));
    if (!Float.isFinite(scale)) {
      throw fields.bad("lora_alpha", "gives " + module + " an infinite scale");
    }
    return new Scaling((int) r, scale);
  }

  /**
   * A test whether a module is targeted: by one expression for the whole name, by a list of names
   * or their last parts, or because all linear modules are.
   */
  Predicate<String> targets() {
    JsonNode value = fields.raw(TARGET_MODULES);
    if (value.isTextual()) {
      if (value.textValue().equalsIgnoreCase("all-linear")) {
        return module -> true;
      }
      return expression(value.textValue());
    }
    List<String> names = fields.texts(TARGET_MODULES);
    if (names.isEmpty() && targetParameters().isEmpty()) {
      throw fields.bad(TARGET_MODULES, "names no module");
    }
    NameEnds ends = new NameEnds(names);
    return module -> !ends.of(module).isEmpty();
  }

  private Predicate<String> expression(String text) {
    ModulePattern[] pattern = new ModulePattern[1];
    checkedPattern(TARGET_MODULES, text, () -> pattern[0] = ModulePattern.whole(text));
    return module -> {
      try {
        return pattern[0].matches(module, effort);
      } catch (ModulePattern.TooExpensiveException e) {
        throw fields.bad(TARGET_MODULES, e.getMessage());
      }
    };
  }

  /** Parameters that are targeted by themselves: names or their last parts. */
  List<String> targetParameters() {
    return fields.texts(TARGET_PARAMETERS);
  }

  /** Whether scales are alpha / sqrt(rank). */
  boolean rankStabilised() {
    return rankStabilised;
  }

  /** The version of PEFT that wrote this, if it says so. */
  Optional<String> peftVersion() {
    return fields.text("peft_version");
  }

  /** The configuration as read. */
  JsonFields fields() {
    return fields;
  }
}
