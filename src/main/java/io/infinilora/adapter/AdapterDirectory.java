package io.infinilora.adapter;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

/**
 * Registers every adapter of a directory: each subdirectory with an {@code adapter_config.json} is
 * one.
 */
public final class AdapterDirectory {
  private static final String CONFIG = "adapter_config.json";

  private AdapterDirectory() {}

  /**
   * Outcome of a load.
   *
   * @param loaded adapters that can be used
   * @param failures one error per adapter that was refused; the others are not affected
   */
  public record Report(List<AdapterInfo> loaded, List<InfiniLoraException> failures) {}

  /**
   * Loads in order of name; the subdirectory's name becomes the adapter's.
   *
   * @throws InfiniLoraException BAD_CONFIG if {@code directory} cannot be listed
   */
  public static Report load(Path directory, AdapterStore store) {
    List<Path> candidates;
    try (Stream<Path> entries = Files.list(directory)) {
      candidates = entries.filter(p -> Files.isRegularFile(p.resolve(CONFIG))).sorted().toList();
    } catch (IOException e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG, "adapters: cannot list %s (%s)".formatted(directory, e), e);
    }
    List<AdapterInfo> loaded = new ArrayList<>();
    List<InfiniLoraException> failures = new ArrayList<>();
    for (Path candidate : candidates) {
      try {
        loaded.add(store.register(candidate.getFileName().toString(), candidate));
      } catch (InfiniLoraException e) {
        failures.add(e);
      }
    }
    return new Report(loaded, failures);
  }
}
