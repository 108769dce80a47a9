package io.infinilora.core;

import java.util.Objects;

/**
 * What somebody asks for who brings an adapter to a serving node.
 *
 * @param name name that requests will use
 * @param source directory or hub reference, as it was written
 * @param inPlace whether it may take the place of an adapter of that name
 * @param pinned whether it is to stay in device memory unused
 * @param dryRun whether everything is to be tried and nothing changed
 * @param allowNoEffect whether an adapter that changes nothing is wanted all the same
 */
public record AdapterLoad(
    String name,
    String source,
    boolean inPlace,
    boolean pinned,
    boolean dryRun,
    boolean allowNoEffect) {

  /** What an adapter is called while it is tried; requests cannot name it. */
  public static final String DRY_RUN_NAME = "(dry run)";

  /** Rejects nulls. */
  public AdapterLoad {
    Objects.requireNonNull(name);
    Objects.requireNonNull(source);
  }
}
