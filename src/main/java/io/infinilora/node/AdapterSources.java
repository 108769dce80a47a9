package io.infinilora.node;

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
import java.util.stream.Stream;

/**
 * Where adapters may come from while a node serves. Nothing outside is read, and what is refused
 * does not tell whether it exists.
 *
 * @param roots directories below which adapters may lie
 * @param allowHub whether they may be on the hub
 * @param hub the hub
 */
record AdapterSources(List<Path> roots, boolean allowHub, HubConfig hub) {

  /** What the settings allow. */
  static AdapterSources of(InfiniLoraConfig config) {
    return new AdapterSources(
        config.lora().roots().orElseGet(() -> config.adapters().stream().toList()),
        config.lora().allowHub(),
        config.hub());
  }

  /**
   * The directory of an adapter, on the hub or below a root, with all links resolved. Blocks, for
   * as long as a download takes.
   *
   * @param source directory or {@code hf:} reference
   * @throws InfiniLoraException INVALID_REQUEST naming the setting if it is not allowed,
   *     BAD_ADAPTER if it could not be downloaded
   */
  Path resolve(String source) {
    return switch (parse(source)) {
      case WeightSource.Local(Path path) -> below(path);
      case HubReference reference -> download(reference);
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

  private Path download(HubReference reference) {
    if (!allowHub) {
      throw invalid(
          "lora_path %s is on the hub, from which setting lora.allowHub allows no adapters"
              .formatted(reference));
    }
    try (Hub opened = new Hub(hub, HubListener.NONE)) {
      return opened.adapter(reference);
    } catch (InfiniLoraException e) {
      throw new InfiniLoraException(ErrorCode.BAD_ADAPTER, e.getMessage(), e);
    }
  }

  private static InfiniLoraException invalid(String message) {
    return new InfiniLoraException(ErrorCode.INVALID_REQUEST, message);
  }
}
