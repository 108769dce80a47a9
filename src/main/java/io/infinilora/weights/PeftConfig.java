package io.infinilora.weights;

import com.fasterxml.jackson.databind.JsonNode;
import io.infinilora.core.ErrorCode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.regex.PatternSyntaxException;

/**
 * What an {@code adapter_config.json} says about ranks, scales and targets. Settings under which
 * the adapter would compute something other than {@code W + scale B A} are refused; the many that
 * only concern training are passed over.
 */
final class PeftConfig {

  /** Settings that must be absent, false or empty. */
  private static final List<String> REFUSED =
      List.of(
          "use_dora",
          "modules_to_save",
          "lora_bias",
          "layer_replication",
          "fan_in_fan_out",
          "trainable_token_indices",
          "target_parameters",
          "alora_invocation_tokens",
          "use_qalora",
          "use_bdlora",
          "arrow_config",
          "kasa_config",
          "monteclora_config");

  /** Initialisations that also change the base weights, which are then not the published ones. */
  private static final List<String> REFUSED_INITS =
      List.of("pissa", "olora", "corda", "loftq", "lora_ga");

  /** A value for the modules that a key matches. */
  private record PatternValue(String key, ModulePattern pattern, double value) {}

  private final JsonFields fields;
  private final int rank;
  private final double alpha;
  private final boolean rankStabilised;
  private final List<PatternValue> ranks;
  private final List<PatternValue> alphas;

  private PeftConfig(JsonFields fields) {
    this.fields = fields;
    refuseOtherKinds();
    rank = checkedRank("r", fields.number("r"));
    alpha = fields.number("lora_alpha");
    rankStabilised = fields.flag("use_rslora", false);
    ranks = overrides("rank_pattern");
    ranks.forEach(o -> checkedRank("rank_pattern", o.value()));
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

  private List<PatternValue> overrides(String key) {
    List<PatternValue> result = new ArrayList<>();
    for (Map.Entry<String, Double> entry : fields.numbers(key).entrySet()) {
      ModulePattern pattern = pattern(key, entry.getKey(), ModulePattern::suffix);
      result.add(new PatternValue(key, pattern, entry.getValue()));
    }
    return result;
  }

  private ModulePattern pattern(
      String key, String expression, Function<String, ModulePattern> compile) {
    try {
      return compile.apply(expression);
    } catch (PatternSyntaxException e) {
      throw fields.bad(
          key, "has the unusable expression \"" + expression + "\": " + e.getDescription());
    }
  }

  private Optional<PatternValue> first(List<PatternValue> overrides, String module) {
    return overrides.stream().filter(o -> matches(o.key(), o.pattern(), module)).findFirst();
  }

  private boolean matches(String key, ModulePattern pattern, String module) {
    try {
      return pattern.matches(module);
    } catch (IllegalStateException | StackOverflowError e) {
      throw fields.bad(
          key, "has the expression \"" + pattern + "\", which takes too long to match");
    }
  }

  /** The rank of a module, by its name in the model. */
  int rank(String module) {
    return first(ranks, module).map(o -> (int) o.value()).orElse(rank);
  }

  /** The factor of {@code B A} for a module. */
  float scale(String module) {
    double numerator = first(alphas, module).map(PatternValue::value).orElse(alpha);
    int r = rank(module);
    float scale = (float) (numerator / (rankStabilised ? Math.sqrt(r) : r));
    if (!Float.isFinite(scale)) {
      throw fields.bad("lora_alpha", "gives " + module + " an infinite scale");
    }
    return scale;
  }

  /**
   * A test whether a module is targeted: by one expression for the whole name, by a list of names
   * or their last parts, or because all linear modules are.
   */
  Predicate<String> targets() {
    JsonNode value = fields.raw("target_modules");
    if (value.isTextual()) {
      if (value.textValue().equalsIgnoreCase("all-linear")) {
        return module -> true;
      }
      ModulePattern pattern = pattern("target_modules", value.textValue(), ModulePattern::whole);
      return module -> matches("target_modules", pattern, module);
    }
    List<String> names = fields.texts("target_modules");
    if (names.isEmpty()) {
      throw fields.bad("target_modules", "names no module");
    }
    return module -> names.stream().anyMatch(n -> module.equals(n) || module.endsWith("." + n));
  }

  /** The configuration as read. */
  JsonFields fields() {
    return fields;
  }
}
