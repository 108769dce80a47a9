package io.infinilora.weights;

import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;

/**
 * What adapters of one model can change, by the names that the model's modules have in PEFT.
 *
 * @param layers what precedes the number of a layer, e.g. {@code model.layers.}
 * @param modules linear modules by {@link LoraModule#name}
 * @param parameters parameters that are targeted by themselves, by the name of the module that
 *     holds them, in the order in which it declares them
 * @param routers modules that choose experts, which adapters cannot change
 */
record AdapterLayout(
    String layers,
    Map<String, LoraModule> modules,
    Map<String, List<LoraModule>> parameters,
    List<String> routers) {

  /** A layout in which {@code parameters} share their holders. */
  static AdapterLayout of(
      String layers, List<LoraModule> modules, List<LoraModule> parameters, List<String> routers) {
    return new AdapterLayout(
        layers,
        modules.stream().collect(Collectors.toMap(LoraModule::name, Function.identity())),
        parameters.stream().collect(Collectors.groupingBy(p -> holder(p.name()))),
        routers);
  }

  private static String holder(String parameter) {
    return parameter.substring(0, parameter.lastIndexOf('.'));
  }

  /** The whole name of a layer's module. */
  String fullName(int layer, String name) {
    return layers + layer + "." + name;
  }

  /** Whether a module within a layer is a router or part of one. */
  boolean isRouter(String name) {
    return routers.stream().anyMatch(r -> name.equals(r) || name.startsWith(r + "."));
  }
}
