package io.infinilora.adapter;

import io.infinilora.backend.Backend;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.FileProblem;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraShard;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.weights.AdaptedModule;
import io.infinilora.weights.DeltaNorms;
import io.infinilora.weights.PeftAdapter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.EnumSet;
import java.util.Set;

/** Reads adapters from disk: completely when they are registered, by layer when they are loaded. */
final class AdapterFiles {
  private AdapterFiles() {}

  /** Checks everything and describes what is there, in one reading. */
  static ReadAdapter read(
      String name, Path directory, ModelSpec spec, LoraShard shard, Backend backend) {
    BasicFileAttributes before = attributes(directory);
    try (PeftAdapter adapter = PeftAdapter.open(directory, spec)) {
      Set<LoraTarget> targets = EnumSet.noneOf(LoraTarget.class);
      adapter.modules().stream().map(AdaptedModule::target).forEach(targets::add);
      AdapterGeneration generation =
          new AdapterGeneration(
              adapter.id(name),
              directory,
              targets,
              adapter.maxRank(),
              new AdapterLayers(adapter, spec, shard).pages(backend),
              before.size(),
              before.lastModifiedTime());
      return new ReadAdapter(generation, DeltaNorms.of(adapter, m -> holds(shard, spec, m)));
    }
  }

  private static boolean holds(LoraShard shard, ModelSpec spec, AdaptedModule module) {
    return shard.holds(spec, module.layer(), module.target().site())
        && (module.expert() == AdaptedModule.DENSE || shard.holdsExpert(spec, module.expert()));
  }

  /** Opens what was checked before, without reading its values again. */
  static OpenAdapter open(AdapterGeneration generation, ModelSpec spec, LoraShard shard) {
    Path directory = generation.source();
    BasicFileAttributes now = attributes(directory);
    if (now.size() != generation.fileBytes()
        || !now.lastModifiedTime().equals(generation.modified())) {
      throw new InfiniLoraException(
          ErrorCode.BAD_ADAPTER,
          "%s: changed since adapter %s was registered; register it again"
              .formatted(PeftAdapter.weightsFile(directory), generation.id().name()));
    }
    PeftAdapter adapter = PeftAdapter.reopen(directory, spec);
    AdapterLayers layers = new AdapterLayers(adapter, spec, shard);
    return new OpenAdapter() {
      @Override
      public LayerFactors layer(int layer) {
        return layers.layer(layer);
      }

      @Override
      public void close() {
        adapter.close();
      }
    };
  }

  private static BasicFileAttributes attributes(Path directory) {
    Path file = PeftAdapter.weightsFile(directory);
    try {
      return Files.readAttributes(file, BasicFileAttributes.class);
    } catch (IOException e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_ADAPTER, "%s cannot be read: %s".formatted(file, FileProblem.of(e)), e);
    }
  }
}
