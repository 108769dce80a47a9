package io.infinilora.adapter;

import io.infinilora.core.InfiniLoraException;
import java.nio.file.Path;

/** Finds the files of adapters where they are going to be held. Any thread but an event loop. */
@FunctionalInterface
public interface SourceResolver {

  /** Takes every source for a directory and allows all. */
  SourceResolver DIRECTORIES = (source, trusted) -> Path.of(source);

  /**
   * The directory of an adapter. Blocks, for as long as a download takes.
   *
   * @param source directory or {@code hf:} reference
   * @param trusted whether the rules of where adapters may come from do not apply
   * @throws InfiniLoraException INVALID_REQUEST if it may not come from there, BAD_ADAPTER if it
   *     could not be downloaded
   */
  Path directory(String source, boolean trusted);
}
