package io.infinilora.weights;

import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Assigns the tensors of an adapter file to the modules of a model. Names are {@code
 * base_model.model.MODULE.lora_A.weight} and {@code lora_B}.
 */
final class PeftTensors {

  private static final String PREFIX = "base_model.model.";
  private static final String A = ".lora_A.weight";
  private static final String B = ".lora_B.weight";

  private final SafetensorsFile file;
  private final PeftConfig config;
  private final ModelSpec spec;
  private final Architecture architecture;
  private final Pattern layerPrefix;
  private final Predicate<String> targeted;

  PeftTensors(SafetensorsFile file, PeftConfig config, ModelSpec spec, Architecture architecture) {
    this.file = file;
    this.config = config;
    this.spec = spec;
    this.architecture = architecture;
    this.targeted = config.targets();
    String[] around = architecture.layerPrefix().split("%d", -1);
    layerPrefix =
        Pattern.compile(Pattern.quote(around[0]) + "(0|[1-9]\\d{0,8})" + Pattern.quote(around[1]));
  }

  /**
   * All pairs.
   *
   * @throws InfiniLoraException BAD_ADAPTER naming file and tensor if one has no place in the
   *     model, no partner, a wrong shape or values that are not finite
   */
  Map<AdaptedModule, LoraFactors> factors() {
    Map<AdaptedModule, LoraFactors> result = new HashMap<>();
    for (String name : file.names()) {
      if (name.endsWith(A)) {
        String module = moduleOf(name, A);
        AdaptedModule place = place(name, module);
        String partner = PREFIX + module + B;
        requirePartner(name, partner);
        result.put(place, pair(module, place.target(), name, partner));
      } else if (name.endsWith(B)) {
        String module = moduleOf(name, B);
        place(name, module);
        requirePartner(name, PREFIX + module + A);
      } else if (name.contains("lora_embedding_")) {
        throw file.tensorFault(name, "adapts an embedding, which is not supported");
      } else {
        throw file.tensorFault(name, "is neither a lora_A nor a lora_B weight");
      }
    }
    if (result.isEmpty()) {
      throw file.fault("holds no LoRA tensors");
    }
    return result;
  }

  private String moduleOf(String name, String suffix) {
    if (!name.startsWith(PREFIX) || name.length() <= PREFIX.length() + suffix.length()) {
      throw file.tensorFault(name, "does not begin with " + PREFIX + " and a module");
    }
    return name.substring(PREFIX.length(), name.length() - suffix.length());
  }

  private AdaptedModule place(String name, String module) {
    Matcher matcher = layerPrefix.matcher(module);
    LoraTarget target =
        matcher.lookingAt()
            ? architecture.loraModules().get(module.substring(matcher.end()))
            : null;
    if (target == null) {
      throw file.tensorFault(
          name,
          "matches no module of a %s model that adapters can change"
              .formatted(spec.architecture()));
    }
    int layer = Integer.parseInt(matcher.group(1));
    if (layer >= spec.layers()) {
      throw file.tensorFault(
          name, "is for layer %d, but the model has %d layers".formatted(layer, spec.layers()));
    }
    if (!targeted.test(module)) {
      throw file.tensorFault(name, "belongs to a module that target_modules does not name");
    }
    return new AdaptedModule(layer, target);
  }

  private void requirePartner(String name, String partner) {
    if (!file.names().contains(partner)) {
      throw file.tensorFault(name, "has no partner " + partner);
    }
  }

  private LoraFactors pair(String module, LoraTarget target, String nameA, String nameB) {
    int rank = config.rank(module);
    TensorView a = checked(nameA, rank, spec.inWidth(target.site()));
    TensorView b = checked(nameB, spec.outWidth(target), rank);
    return new LoraFactors(WeightMatrix.of(a), WeightMatrix.of(b), config.scale(module));
  }

  private TensorView checked(String name, long rows, long cols) {
    TensorView tensor = file.view(name);
    long[] expected = {rows, cols};
    if (!Arrays.equals(tensor.shape(), expected)) {
      throw file.tensorFault(
          name,
          "has shape %s, but configured rank and model ask for %s"
              .formatted(Arrays.toString(tensor.shape()), Arrays.toString(expected)));
    }
    long bad = FiniteCheck.firstNonFinite(tensor);
    if (bad >= 0) {
      throw file.tensorFault(
          name, "holds a value that is not finite at [%d, %d]".formatted(bad / cols, bad % cols));
    }
    return tensor;
  }
}
