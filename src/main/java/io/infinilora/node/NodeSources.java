package io.infinilora.node;

import io.infinilora.adapter.AdapterDirectory;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.core.WeightSource;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.infinilora.weights.hub.Hub;
import io.infinilora.weights.hub.HubListener;
import io.smallrye.mutiny.Multi;
import io.smallrye.mutiny.Uni;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/**
 * What a node is to serve.
 *
 * @param model file or directory of this machine; of random weights, their {@code config.json}
 * @param random whether the weights are random
 * @param adapterDirectory directory of adapters
 * @param adapters the further ones
 */
record NodeSources(
    Path model, boolean random, Optional<Path> adapterDirectory, List<NamedAdapter> adapters) {
  /** Seed of random weights, the same in every process. */
  private static final long SEED = 1;

  /** An adapter with a name of its own, and where whoever holds it finds it. */
  record NamedAdapter(String name, String source) {}

  /**
   * Downloads the model if it is on the hub. Blocks.
   *
   * @throws InfiniLoraException if there is no model
   */
  static NodeSources resolve(InfiniLoraConfig config, HubListener listener) {
    boolean lora = config.loraMode() != LoraMode.NONE;
    List<NamedAdapter> adapters = new ArrayList<>();
    if (lora) {
      config
          .adapter()
          .forEach((name, source) -> adapters.add(new NamedAdapter(name, source.toString())));
    }
    boolean random = config.model().filter(m -> m instanceof WeightSource.Random).isPresent();
    return new NodeSources(
        model(config, listener), random, config.adapters().filter(d -> lora), adapters);
  }

  /** Opens the model. */
  Checkpoint open() {
    return random ? Checkpoints.random(model, SEED) : Checkpoints.open(model);
  }

  private static Path model(InfiniLoraConfig config, HubListener listener) {
    WeightSource source =
        config
            .model()
            .orElseThrow(() -> new InfiniLoraException(ErrorCode.BAD_CONFIG, "model is not set"));
    return switch (source) {
      case WeightSource.Local(Path path) -> path;
      case WeightSource.Random(Path path) -> path;
      case HubReference reference -> {
        try (Hub hub = new Hub(config.hub(), listener)) {
          yield hub.model(reference);
        }
      }
    };
  }

  /**
   * Registers the adapters one after the other, and brings them into memory as far as there is
   * room; one that is refused does not affect the others.
   */
  Uni<AdapterReport> register(NodeAdapters node) {
    List<NamedAdapter> all = new ArrayList<>();
    adapterDirectory
        .map(AdapterDirectory::list)
        .ifPresent(
            list ->
                list.forEach(
                    d -> all.add(new NamedAdapter(d.getFileName().toString(), d.toString()))));
    int unnamed = all.size();
    all.addAll(adapters);
    List<AdapterStatus> loaded = new ArrayList<>();
    List<InfiniLoraException> failures = new ArrayList<>();
    Set<String> taken = new HashSet<>();
    return Multi.createFrom()
        .range(0, all.size())
        .onItem()
        .transformToUniAndConcatenate(
            i -> {
              NamedAdapter adapter = all.get(i);
              if (!taken.add(adapter.name())) {
                failures.add(twice(adapter));
                return Uni.createFrom().nullItem();
              }
              return node.add(adapter.name(), adapter.source())
                  .invoke(loaded::add)
                  .onFailure(InfiniLoraException.class)
                  .recoverWithItem(
                      e -> {
                        InfiniLoraException known = (InfiniLoraException) e;
                        failures.add(i < unnamed ? known : named(adapter.name(), known));
                        return null;
                      });
            })
        .collect()
        .last()
        .map(last -> new AdapterReport(loaded, failures));
  }

  private static InfiniLoraException twice(NamedAdapter adapter) {
    return new InfiniLoraException(
        ErrorCode.BAD_ADAPTER,
        "%s: an adapter named %s exists already".formatted(adapter.source(), adapter.name()));
  }

  private static InfiniLoraException named(String name, InfiniLoraException e) {
    return new InfiniLoraException(e.code(), name + ": " + e.getMessage(), e);
  }
}
