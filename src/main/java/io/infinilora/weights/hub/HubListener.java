package io.infinilora.weights.hub;

import io.infinilora.core.HubReference;

/**
 * Told how downloads go. Methods are called on the threads that download, several at a time, and
 * must not block.
 */
public interface HubListener {

  /** Hears nothing. */
  HubListener NONE = new HubListener() {};

  /** Something that a person may want to know. */
  default void note(String message) {}

  /**
   * A repository's files are known.
   *
   * @param files how many are needed
   * @param bytes how much of them is not in the cache, partial files included
   */
  default void planned(HubReference reference, String commit, int files, long bytes) {}

  /** So many bytes more lie in the cache; negative if a partial file was discarded. */
  default void received(long bytes) {}

  /** A file is complete and its checksum right. */
  default void completed(String file, long bytes) {}
}
