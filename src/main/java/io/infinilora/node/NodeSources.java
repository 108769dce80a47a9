package io.infinilora.node;

import io.infinilora.adapter.AdapterDirectory;
import io.infinilora.adapter.AdapterInfo;
import io.infinilora.adapter.AdapterStore;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.core.WeightSource;
import io.infinilora.weights.hub.Hub;
import io.infinilora.weights.hub.HubListener;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The files of a node, all on this machine.
 *
 * @param model file or directory
 * @param adapterDirectory directory of adapters
 * @param adapters the further ones
 * @param refused one error per adapter that the hub did not give
 */
record NodeSources(
    Path model,
    Optional<Path> adapterDirectory,
    List<NamedAdapter> adapters,
    List<InfiniLoraException> refused) {

  /** An adapter with a name of its own, and where its files are. */
  record NamedAdapter(String name, Path directory) {}

  /**
   * Downloads what is on the hub. Blocks.
   *
   * @throws InfiniLoraException if there is no model
   */
  static NodeSources resolve(InfiniLoraConfig config, HubListener listener) {
    WeightSource source =
        config
            .model()
            .orElseThrow(() -> new InfiniLoraException(ErrorCode.BAD_CONFIG, "model is not set"));
    boolean lora = config.loraMode() != LoraMode.NONE;
    try (Hub hub = new Hub(config.hub(), listener)) {
      Path model =
          switch (source) {
            case WeightSource.Local(Path path) -> path;
            case HubReference reference -> hub.model(reference);
          };
      List<NamedAdapter> adapters = new ArrayList<>();
      List<InfiniLoraException> refused = new ArrayList<>();
      for (Map.Entry<String, WeightSource> entry :
          lora ? config.adapter().entrySet() : List.<Map.Entry<String, WeightSource>>of()) {
        try {
          Path directory =
              switch (entry.getValue()) {
                case WeightSource.Local(Path path) -> path;
                case HubReference reference -> hub.adapter(reference);
              };
          adapters.add(new NamedAdapter(entry.getKey(), directory));
        } catch (InfiniLoraException e) {
          refused.add(named(entry.getKey(), e));
        }
      }
      return new NodeSources(model, config.adapters().filter(d -> lora), adapters, refused);
    }
  }

  /** Loads the adapters; one that is refused does not affect the others. */
  AdapterDirectory.Report register(AdapterStore store) {
    List<AdapterInfo> loaded = new ArrayList<>();
    List<InfiniLoraException> failures = new ArrayList<>(refused);
    adapterDirectory
        .map(directory -> AdapterDirectory.load(directory, store))
        .ifPresent(
            report -> {
              loaded.addAll(report.loaded());
              failures.addAll(report.failures());
            });
    for (NamedAdapter adapter : adapters) {
      try {
        loaded.add(store.register(adapter.name(), adapter.directory()));
      } catch (InfiniLoraException e) {
        failures.add(named(adapter.name(), e));
      }
    }
    return new AdapterDirectory.Report(loaded, failures);
  }

  private static InfiniLoraException named(String name, InfiniLoraException e) {
    return new InfiniLoraException(e.code(), name + ": " + e.getMessage(), e);
  }
}
