package io.infinilora.weights;

import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * The parameters that an adapter's {@code target_parameters} name. PEFT wraps the module that holds
 * a parameter once for each of them, in the order of the module's parameters, and names the tensors
 * after the wrapper: with {@code .base_layer} for every wrapper around it.
 */
final class TargetedParameters {

  private final PeftConfig config;
  private final Map<String, List<LoraModule>> byHolder = new HashMap<>();
  private final Map<String, List<String>> reasons = new HashMap<>();
  private final Set<String> unseen;

  /**
   * Looks the names up.
   *
   * @throws InfiniLoraException BAD_ADAPTER if a name is none of a parameter that can be changed
   */
  TargetedParameters(PeftConfig config, AdapterLayout layout, ModelSpec spec) {
    this.config = config;
    unseen = new HashSet<>(config.targetParameters());
    NameEnds targets = new NameEnds(unseen);
    Set<String> unknown = new HashSet<>(unseen);
    for (int layer = 0; layer < spec.layers(); layer++) {
      for (Map.Entry<String, List<LoraModule>> held : layout.parameters().entrySet()) {
        List<LoraModule> wrapped = new ArrayList<>();
        for (LoraModule parameter : held.getValue()) {
          String name = layout.fullName(layer, parameter.name());
          List<String> matching = targets.of(name);
          if (!matching.isEmpty()) {
            wrapped.add(parameter);
            reasons.put(name, matching);
            matching.forEach(unknown::remove);
          }
        }
        byHolder.put(layout.fullName(layer, held.getKey()), wrapped);
      }
    }
    for (String name : config.targetParameters()) {
      if (unknown.contains(name)) {
        throw unknown(name, layout, spec);
      }
    }
  }

  private InfiniLoraException unknown(String name, AdapterLayout layout, ModelSpec spec) {
    boolean router =
        layout.routers().stream()
            .map(r -> "." + r + ".weight")
            .anyMatch(r -> r.endsWith("." + name) || name.endsWith(r));
    String what =
        router
            ? "the router's, which is not supported"
            : "no expert parameter of a %s model of %d layers that adapters can change"
                .formatted(spec.architecture(), spec.layers());
    return config.fields().bad(PeftConfig.TARGET_PARAMETERS, "names " + name + ", " + what);
  }

  /** How many parameters of a module are targeted; 0 also if it holds none. */
  int count(String holder) {
    return byHolder.getOrDefault(holder, List.of()).size();
  }

  /** The parameter that the wrapper inside {@code wrappers} others changes, if there is one. */
  Optional<LoraModule> find(String holder, int wrappers) {
    List<LoraModule> wrapped = byHolder.getOrDefault(holder, List.of());
    return wrappers < wrapped.size()
        ? Optional.of(wrapped.get(wrapped.size() - 1 - wrappers))
        : Optional.empty();
  }

  /** Notes that there are tensors for a parameter. */
  void seen(String fullName) {
    unseen.removeAll(reasons.get(fullName));
  }

  /**
   * Checks that there were tensors for every name.
   *
   * @throws InfiniLoraException BAD_ADAPTER if not
   */
  void requireAllSeen(SafetensorsFile file) {
    for (String name : config.targetParameters()) {
      if (unseen.contains(name)) {
        throw file.fault("holds no tensors for " + name + ", which target_parameters names");
      }
    }
  }
}
