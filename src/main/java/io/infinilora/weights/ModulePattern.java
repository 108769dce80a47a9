package io.infinilora.weights;

import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/**
 * A regular expression from an adapter's configuration, matched against whole module names with a
 * bound on the effort: an expression that backtracks without end must not hold up the service.
 */
final class ModulePattern {

  private static final int MAX_LENGTH = 1000;
  private static final int MAX_STEPS = 1_000_000;

  private final Pattern pattern;

  private ModulePattern(Pattern pattern) {
    this.pattern = pattern;
  }

  /**
   * An expression that has to match the whole name.
   *
   * @throws PatternSyntaxException if it is none, or too long
   */
  static ModulePattern whole(String expression) {
    if (expression.length() > MAX_LENGTH) {
      throw new PatternSyntaxException("longer than " + MAX_LENGTH, "...", -1);
    }
    return new ModulePattern(Pattern.compile(expression));
  }

  /**
   * A key of {@code rank_pattern} or {@code alpha_pattern}, which may leave out leading parts of
   * the name up to a dot.
   */
  static ModulePattern suffix(String expression) {
    whole(expression); // so that a lone parenthesis is not balanced by ours
    return whole("(.*\\.)?(" + expression + ")");
  }

  /**
   * Whether the expression matches.
   *
   * @throws IllegalStateException if that takes too long to say
   */
  boolean matches(String module) {
    return pattern.matcher(new Metered(module)).matches();
  }

  @Override
  public String toString() {
    return pattern.pattern();
  }

  /** Counts the matcher's looks at the text, since the matcher itself cannot be bounded. */
  private static final class Metered implements CharSequence {
    private final String text;
    private int steps;

    Metered(String text) {
      this.text = text;
    }

    @Override
    public char charAt(int index) {
      if (++steps > MAX_STEPS) {
        throw new IllegalStateException("takes too long to match");
      }
      return text.charAt(index);
    }

    @Override
    public int length() {
      return text.length();
    }

    @Override
    public CharSequence subSequence(int start, int end) {
      return text.substring(start, end);
    }

    @Override
    public String toString() {
      return text;
    }
  }
}
