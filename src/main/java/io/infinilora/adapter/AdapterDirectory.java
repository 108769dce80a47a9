package io.infinilora.adapter;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.FileProblem;
import io.infinilora.core.InfiniLoraException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

/** A directory of adapters: each subdirectory with an {@code adapter_config.json} is one. */
public final class AdapterDirectory {
  private static final String CONFIG = "adapter_config.json";

  private AdapterDirectory() {}

  /**
   * The adapters' directories in order of name, which becomes the adapter's.
   *
   * @throws InfiniLoraException BAD_CONFIG if {@code directory} cannot be listed, or is an adapter
   *     itself
   */
  public static List<Path> list(Path directory) {
    if (Files.isRegularFile(directory.resolve(CONFIG))) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "adapters: %s is an adapter itself; name the directory that it lies in, or use --adapter NAME=%s"
              .formatted(directory, directory));
    }
    try (Stream<Path> entries = Files.list(directory)) {
      return entries.filter(p -> Files.isRegularFile(p.resolve(CONFIG))).sorted().toList();
    } catch (IOException e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "adapters: cannot list %s: %s".formatted(directory, FileProblem.of(e)),
          e);
    }
  }
}
