package io.infinilora.core;

import java.util.Objects;

/**
 * An adapter generation: the name that requests use, and the digest of its content. Two generations
 * of one name differ in the digest, so nothing cached for one is ever used for the other.
 *
 * @param name public name
 * @param digest SHA-256 over configuration and weights, lower-case hex
 */
public record AdapterId(String name, String digest) {

  /** Rejects nulls. */
  public AdapterId {
    Objects.requireNonNull(name);
    Objects.requireNonNull(digest);
  }

  @Override
  public String toString() {
    return name + "@" + digest.substring(0, Math.min(12, digest.length()));
  }
}
