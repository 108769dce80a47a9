package io.infinilora.core;

import java.util.Objects;
import java.util.UUID;

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

  /** How adapters are called while they are tried; requests cannot name them. */
  private static final String DRY_RUN = "(dry run) ";

  /** Rejects nulls. */
  public AdapterLoad {
    Objects.requireNonNull(name);
    Objects.requireNonNull(source);
  }

  /** A name for a trial, which no other trial of a cluster has. */
  public static String dryRunName() {
    return DRY_RUN + UUID.randomUUID();
  }

  /** Whether a name is that of a trial. */
  public static boolean isDryRun(String name) {
    return name.startsWith(DRY_RUN);
  }
}
