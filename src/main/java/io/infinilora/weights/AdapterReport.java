package io.infinilora.weights;

import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SortedSet;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * What an adapter says of itself, without a model: read from its configuration and the names and
 * shapes of its tensors.
 *
 * @param baseModel name of the model that it was trained on, or null if it does not say so
 * @param peftVersion version of PEFT that saved it, or null likewise
 * @param targets modules or, for {@code target_parameters}, the parameters, within their layers
 * @param layers layers that it changes
 * @param experts number of experts that it changes; 0 if none, or if only a model can tell
 * @param ranks ranks that occur
 * @param scales factors of {@code B A} that occur
 * @param rankStabilised whether they are alpha / sqrt(rank) rather than alpha / rank
 * @param pairs number of tensor pairs
 * @param parameters number of values
 * @param bytesByType bytes of the values, by element type
 * @param digest hash of the content
 */
public record AdapterReport(
    String baseModel,
    String peftVersion,
    SortedSet<String> targets,
    SortedSet<Integer> layers,
    int experts,
    SortedSet<Integer> ranks,
    SortedSet<Float> scales,
    boolean rankStabilised,
    int pairs,
    long parameters,
    Map<String, Long> bytesByType,
    String digest) {

  /** Whether a path looks like an adapter rather than a model. */
  public static boolean isAdapter(Path path) {
    return Files.isRegularFile(path.resolve(PeftFolder.CONFIG));
  }

  /**
   * Reads an adapter.
   *
   * @param directory the folder with both files
   * @throws InfiniLoraException BAD_ADAPTER naming file and key or tensor if no model could use it
   */
  public static AdapterReport read(Path directory) {
    try (Arena arena = Arena.ofConfined()) {
      return new Reader(PeftFolder.open(directory, arena)).read();
    }
  }

  /** Collects what the tensors show. */
  private static final class Reader {
    private final PeftFolder files;
    private final PeftConfig config;
    private final NameEnds parameterNames;
    private final SortedSet<String> targets = new TreeSet<>();
    private final SortedSet<Integer> layers = new TreeSet<>();
    private final SortedSet<Integer> experts = new TreeSet<>();
    private final SortedSet<Integer> ranks = new TreeSet<>();
    private final SortedSet<Float> scales = new TreeSet<>();
    private final Map<String, Long> bytesByType = new TreeMap<>();
    private long parameters;
    private int stacked;

    Reader(PeftFolder files) {
      this.files = files;
      config = files.config();
      config.targets();
      parameterNames = new NameEnds(config.targetParameters());
    }

    AdapterReport read() {
      PeftNames names = new PeftNames(files.weights());
      for (PeftTensorName name : names.pairs()) {
        TensorView a = matrix(names.a(name));
        matrix(names.b(name));
        Optional<ModulePath> path = AdapterLayouts.path(name.module());
        path.ifPresent(p -> layers.add(p.layer()));
        path.filter(p -> p.expert() >= 0).ifPresent(p -> experts.add(p.expert()));
        List<String> held = parametersOf(name.module());
        (held.isEmpty() ? List.of(name.module()) : held).forEach(this::target);
        if (!held.isEmpty()) {
          stacked = Math.max(stacked, a.rows() / config.scaling(held.getFirst()).rank());
        }
      }
      return new AdapterReport(
          config.fields().text("base_model_name_or_path").orElse(null),
          config.peftVersion().orElse(null),
          targets,
          layers,
          stacked > 1 ? stacked : experts.size(),
          ranks,
          scales,
          config.rankStabilised(),
          names.pairs().size(),
          parameters,
          bytesByType,
          files.digest());
    }

    /** The targeted parameters of a module that holds such. */
    private List<String> parametersOf(String module) {
      if (AdapterLayouts.path(module).filter(AdapterLayouts::holdsParameters).isEmpty()) {
        return List.of();
      }
      return config.targetParameters().stream()
          .map(target -> module + "." + target.substring(target.lastIndexOf('.') + 1))
          .filter(name -> !parameterNames.of(name).isEmpty())
          .distinct()
          .toList();
    }

    private void target(String fullName) {
      targets.add(
          AdapterLayouts.path(fullName).map(p -> p.name().replace("%d", "*")).orElse(fullName));
      PeftConfig.Scaling scaling = config.scaling(fullName);
      ranks.add(scaling.rank());
      scales.add(scaling.scale());
    }

    private TensorView matrix(TensorView tensor) {
      if (tensor.shape().length != 2) {
        throw files.weights().tensorFault(tensor.name(), "is no matrix");
      }
      FiniteCheck.require(tensor, files.weights());
      parameters += tensor.elements();
      bytesByType.merge(tensor.dtype().name(), tensor.data().byteSize(), Long::sum);
      return tensor;
    }
  }
}
