package io.infinilora.core;

/** What a parser of JSON says, without what only its programmer understands. */
public final class JsonProblem {
  private JsonProblem() {}

  /**
   * The message without hints at options and classes of Jackson.
   *
   * @param message what Jackson says, without its own location
   */
  public static String of(String message) {
    return message
        .replaceFirst("\\[Source: [^;]*; (line: \\d+), (column: \\d+)\\]", "$1, $2")
        .replaceFirst(": enable `.*", "")
        .replaceFirst(", from `[^`]*`", "");
  }
}
