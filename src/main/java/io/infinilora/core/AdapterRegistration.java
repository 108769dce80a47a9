package io.infinilora.core;

import java.util.Objects;

/**
 * What the LoRA side is asked to register.
 *
 * @param name name that requests will use
 * @param source directory or {@code hf:} reference, as whoever holds the adapter will see it
 * @param trusted whether it comes from the settings of a node, and not from a client: no rule of
 *     where adapters may come from applies to it
 * @param allowNoEffect whether an adapter that changes nothing is wanted all the same
 */
public record AdapterRegistration(
    String name, String source, boolean trusted, boolean allowNoEffect) {

  /** Rejects nulls. */
  public AdapterRegistration {
    Objects.requireNonNull(name);
    Objects.requireNonNull(source);
  }

  /** An adapter of a node's own, which must change something. */
  public static AdapterRegistration own(String name, String source) {
    return new AdapterRegistration(name, source, true, false);
  }
}
