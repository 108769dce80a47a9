package io.infinilora.weights;

import java.util.Optional;

/**
 * The name of a LoRA tensor, taken apart: {@code base_model.model.MODULE.lora_A.weight}. A raw
 * state dict has the name of the adapter behind {@code lora_A}; since a name of one's own choice
 * could be anything, only PEFT's default is read. {@code .base_layer} behind the module is counted:
 * one for each wrapper around it.
 *
 * @param module name of the module, without {@code .base_layer}
 * @param wrappers how often {@code .base_layer} follows it
 * @param isA whether this is A
 * @param raw whether the adapter's name is in it
 */
record PeftTensorName(String module, int wrappers, boolean isA, boolean raw) {

  static final String PREFIX = "base_model.model.";
  private static final String BASE_LAYER = ".base_layer";
  private static final String RAW = ".default.weight";
  private static final String PLAIN = ".weight";

  /** Takes a name apart that ends like a LoRA tensor's; the module is empty if it has none. */
  static Optional<PeftTensorName> parse(String name) {
    boolean raw = name.endsWith(RAW);
    String rest = name.substring(0, Math.max(0, name.length() - (raw ? RAW : PLAIN).length()));
    boolean isA = rest.endsWith(".lora_A");
    if ((!isA && !rest.endsWith(".lora_B")) || !name.endsWith(PLAIN)) {
      return Optional.empty();
    }
    String module = rest.substring(0, rest.length() - ".lora_A".length());
    int wrappers = 0;
    while (module.endsWith(BASE_LAYER)) {
      module = module.substring(0, module.length() - BASE_LAYER.length());
      wrappers++;
    }
    module = module.startsWith(PREFIX) ? module.substring(PREFIX.length()) : "";
    return Optional.of(new PeftTensorName(module, wrappers, isA, raw));
  }

  /** The name of the other tensor of the pair. */
  String partner() {
    return new PeftTensorName(module, wrappers, !isA, raw).name();
  }

  /** The name of the same tensor inside as many wrappers. */
  String within(int others) {
    return new PeftTensorName(module, others, isA, raw).name();
  }

  /** The whole name. */
  String name() {
    String side = isA ? ".lora_A" : ".lora_B";
    return PREFIX + module + BASE_LAYER.repeat(wrappers) + side + (raw ? RAW : PLAIN);
  }
}
