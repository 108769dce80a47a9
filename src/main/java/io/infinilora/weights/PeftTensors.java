package io.infinilora.weights;

import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Predicate;

/** Assigns the tensors of an adapter file to the modules of a model. */
final class PeftTensors {

  /** What a pair changes, and how strongly. */
  private record Place(LoraModule module, ModulePath path, PeftConfig.Scaling scaling) {}

  /** The two tensors of a module or parameter. */
  private record Pair(Place place, TensorView a, TensorView b) {
    LoraModule module() {
      return place.module();
    }

    int rank() {
      return place.scaling().rank();
    }
  }

  private final SafetensorsFile file;
  private final PeftConfig config;
  private final ModelSpec spec;
  private final AdapterLayout layout;
  private final boolean values;
  private final Predicate<String> targeted;
  private final TargetedParameters parameters;
  private final Map<AdaptedModule, LoraFactors> result = new HashMap<>();

  /**
   * @param values whether values are checked, or only what the header says
   */
  PeftTensors(
      SafetensorsFile file,
      PeftConfig config,
      ModelSpec spec,
      AdapterLayout layout,
      boolean values) {
    this.file = file;
    this.config = config;
    this.spec = spec;
    this.layout = layout;
    this.values = values;
    this.targeted = config.targets();
    this.parameters = new TargetedParameters(config, layout, spec);
  }

  /**
   * All pairs.
   *
   * @throws InfiniLoraException BAD_ADAPTER naming file and tensor if one has no place in the
   *     model, no partner, a wrong shape or (if they are checked) values that are not finite
   */
  Map<AdaptedModule, LoraFactors> factors() {
    PeftNames names = new PeftNames(file);
    List<Pair> pairs = new ArrayList<>();
    for (PeftTensorName name : names.pairs()) {
      Place place = place(name);
      pairs.add(new Pair(place, names.a(name), names.b(name)));
    }
    Optional<Boolean> transposed = pairs.stream().flatMap(p -> byShape(p).stream()).findFirst();
    for (Pair pair : pairs) {
      split(pair, pair.module().stacked() != null && transposed(pair, transposed));
    }
    parameters.requireAllSeen(file);
    return result;
  }

  private Place place(PeftTensorName parsed) {
    String name = parsed.name();
    ModulePath path =
        ModulePath.parse(parsed.module(), layout.layers()).orElseThrow(() -> noModule(name));
    if (layout.isRouter(path.name())) {
      throw file.tensorFault(name, "adapts a router, which is not supported");
    }
    boolean held = layout.parameters().containsKey(path.name());
    LoraModule module = parsed.wrappers() == 0 ? layout.modules().get(path.name()) : null;
    if (module == null && !held) {
      throw noModule(name);
    }
    if (path.layer() >= spec.layers()) {
      throw file.tensorFault(
          name,
          "is for layer %d, but the model has %d layers".formatted(path.layer(), spec.layers()));
    }
    if (held) {
      return parameter(parsed, path);
    }
    if (path.expert() != AdaptedModule.DENSE && path.expert() >= spec.mlp().moe().experts()) {
      throw file.tensorFault(
          name,
          "is for expert %d, but the model has %d experts"
              .formatted(path.expert(), spec.mlp().moe().experts()));
    }
    if (!targeted.test(parsed.module())) {
      throw file.tensorFault(name, "belongs to a module that target_modules does not name");
    }
    return new Place(module, path, config.scaling(parsed.module()));
  }

  private Place parameter(PeftTensorName parsed, ModulePath path) {
    int count = parameters.count(parsed.module());
    LoraModule parameter =
        parameters
            .find(parsed.module(), parsed.wrappers())
            .orElseThrow(
                () ->
                    file.tensorFault(
                        parsed.name(),
                        "would be number %d of the parameters of %s, of which target_parameters names %d"
                            .formatted(parsed.wrappers() + 1, parsed.module(), count)));
    for (int i = 0; i < count; i++) {
      if (!file.names().contains(parsed.within(i))) {
        throw file.tensorFault(
            parsed.within(i),
            "is missing: target_parameters names %d parameters of %s"
                .formatted(count, parsed.module()));
      }
    }
    String fullName = layout.fullName(path.layer(), parameter.name());
    parameters.seen(fullName);
    return new Place(parameter, path, config.scaling(fullName));
  }

  private InfiniLoraException noModule(String name) {
    return file.tensorFault(
        name,
        "matches no module of a %s model that adapters can change".formatted(spec.architecture()));
  }

  private static Optional<Boolean> byShape(Pair pair) {
    return pair.module().stacked() == null
        ? Optional.empty()
        : StackedPairs.transposed(pair.module(), pair.rank(), pair.a().shape(), pair.b().shape());
  }

  /** One version of PEFT wrote the file, so what one pair shows holds for all. */
  private boolean transposed(Pair pair, Optional<Boolean> shown) {
    return byShape(pair)
        .or(() -> shown)
        .or(() -> StackedPairs.transposed(pair.module().stacked().order(), config.peftVersion()))
        .orElseThrow(
            () ->
                file.tensorFault(
                    pair.a().name(),
                    "could be on the inputs or the outputs of %s, which peft_version %s does not settle"
                        .formatted(
                            pair.module().name(), config.peftVersion().orElse("(missing)"))));
  }

  private void split(Pair pair, boolean transposed) {
    LoraModule module = pair.module();
    LoraFactors whole =
        new LoraFactors(
            checked(pair.a(), module.shapeOfA(pair.rank(), transposed)),
            checked(pair.b(), module.shapeOfB(pair.rank(), transposed)),
            pair.place().scaling().scale());
    LoraSplit.Sink sink = (target, expert, part) -> put(pair, target, expert, part);
    if (module.stacked() == null) {
      module.split().split(whole, pair.place().path().expert(), sink);
      return;
    }
    int experts = module.stacked().experts();
    for (int e = 0; e < experts; e++) {
      module.split().split(StackedPairs.ofExpert(whole, e, experts, transposed), e, sink);
    }
  }

  private void put(Pair pair, LoraTarget target, int expert, LoraFactors part) {
    AdaptedModule module = new AdaptedModule(pair.place().path().layer(), target, expert);
    LoraFactors other = result.putIfAbsent(module, part);
    if (other != null) {
      throw file.tensorFault(
          pair.a().name(),
          "changes what tensor %s changes, too".formatted(other.a().tensor().name()));
    }
  }

  private WeightMatrix checked(TensorView tensor, long[] expected) {
    if (!Arrays.equals(tensor.shape(), expected)) {
      throw file.tensorFault(
          tensor.name(),
          "has shape %s, but configured rank and model ask for %s"
              .formatted(Arrays.toString(tensor.shape()), Arrays.toString(expected)));
    }
    if (values) {
      FiniteCheck.require(tensor, file);
    }
    return WeightMatrix.of(tensor);
  }
}
