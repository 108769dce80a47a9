package io.infinilora.config;

/**
 * A value that is never printed.
 *
 * @param text visible ASCII characters, at least one
 */
public record Secret(String text) {

  /** Rejects what cannot be sent in an HTTP header, without repeating it. */
  public Secret {
    if (text.isEmpty() || !text.chars().allMatch(c -> c > ' ' && c < 0x7f)) {
      throw Check.error("hub.token must be visible ASCII characters without spaces");
    }
  }

  @Override
  public String toString() {
    return "(secret)";
  }
}
