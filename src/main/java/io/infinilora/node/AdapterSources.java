package io.infinilora.node;

import io.infinilora.adapter.SourceResolver;
import io.infinilora.config.HubConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.WeightSource;
import io.infinilora.weights.hub.Hub;
import io.infinilora.weights.hub.HubListener;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.stream.Stream;

/**
 * Where adapters may come from while a node serves. Nothing outside is read, and what is refused
 * does not tell whether it exists. Any thread but an event loop.
 */
final class AdapterSources implements SourceResolver {
  private final List<Path> roots;
  private final boolean allowHub;
  private final HubConfig hub;
  private final HubListener listener;

  /** Downloads in progress, which shards of this JVM share. */
  private final Map<HubReference, FutureTask<Path>> downloads = new ConcurrentHashMap<>();

  private AdapterSources(List<Path> roots, boolean allowHub, HubConfig hub, HubListener listener) {
    this.roots = List.copyOf(roots);
    this.allowHub = allowHub;
    this.hub = hub;
    this.listener = listener;
  }

  /**
   * What the settings allow.
   *
   * @param listener told how downloads of trusted sources go
   */
  static AdapterSources of(InfiniLoraConfig config, HubListener listener) {
    return new AdapterSources(
        config.lora().roots().orElseGet(() -> config.adapters().stream().toList()),
        config.lora().allowHub(),
        config.hub(),
        listener);
  }

  /**
   * The directory of an adapter; one that is not trusted is on the hub, if that is allowed, or
   * below a root, with all links resolved.
   */
  @Override
  public Path directory(String source, boolean trusted) {
    return switch (parse(source)) {
      case WeightSource.Local(Path path) -> trusted ? path : below(path);
      case WeightSource.Random random ->
          throw new InfiniLoraException(
              ErrorCode.BAD_ADAPTER, random + ": only models can have random weights");
      case HubReference reference -> {
        if (!trusted && !allowHub) {
          throw invalid(
              "lora_path %s is on the hub, from which setting lora.allowHub allows no adapters"
                  .formatted(reference));
        }
        yield download(reference, trusted ? listener : HubListener.NONE);
      }
    };
  }

  private static WeightSource parse(String source) {
    try {
      return WeightSource.parse(source);
    } catch (InvalidPathException e) {
      throw invalid("lora_path is no path: " + e.getReason());
    } catch (IllegalArgumentException e) {
      throw invalid("lora_path: " + e.getMessage());
    }
  }

  private Path below(Path path) {
    try {
      Path directory = path.toRealPath();
      if (isBelow(directory) && Files.isDirectory(directory)) {
        try (Stream<Path> files = Files.list(directory)) {
          for (Path file : files.filter(Files::isSymbolicLink).toList()) {
            if (!isBelow(file.toRealPath())) {
              throw refused(path);
            }
          }
        }
        return directory;
      }
    } catch (IOException e) {
      throw refused(path);
    }
    throw refused(path);
  }

  private boolean isBelow(Path real) throws IOException {
    for (Path root : roots) {
      if (Files.isDirectory(root)) {
        Path realRoot = root.toRealPath();
        if (real.startsWith(realRoot) && !real.equals(realRoot)) {
          return true;
        }
      }
    }
    return false;
  }

  private static InfiniLoraException refused(Path path) {
    return invalid(
        "lora_path %s is no directory below those that setting lora.roots names".formatted(path));
  }

  /** Whoever wants what is being downloaded waits for that. */
  private Path download(HubReference reference, HubListener ear) {
    FutureTask<Path> mine = new FutureTask<>(() -> fetch(reference, ear));
    FutureTask<Path> first = downloads.putIfAbsent(reference, mine);
    if (first == null) {
      mine.run();
      downloads.remove(reference);
    }
    try {
      return (first == null ? mine : first).get();
    } catch (ExecutionException e) {
      throw e.getCause() instanceof InfiniLoraException known
          ? new InfiniLoraException(ErrorCode.BAD_ADAPTER, known.getMessage(), known)
          : new InfiniLoraException(
              ErrorCode.INTERNAL, "%s: %s".formatted(reference, e.getCause()), e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new InfiniLoraException(
          ErrorCode.UNAVAILABLE, reference + ": nobody waits for the download any more", e);
    }
  }

  private Path fetch(HubReference reference, HubListener ear) {
    try (Hub opened = new Hub(hub, ear)) {
      return opened.adapter(reference);
    }
  }

  private static InfiniLoraException invalid(String message) {
    return new InfiniLoraException(ErrorCode.INVALID_REQUEST, message);
  }
}
