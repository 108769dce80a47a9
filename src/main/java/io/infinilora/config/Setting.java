package io.infinilora.config;

/**
 * A value that someone has set, still as text.
 *
 * @param text as written; null for an explicit "not set"
 * @param origin where, for messages: a file with its line, a variable, the command line
 * @param list whether it was written as a list; {@code text} has its items joined by commas
 */
record Setting(String text, String origin, boolean list) {

  /** A single value. */
  Setting(String text, String origin) {
    this(text, origin, false);
  }
}
