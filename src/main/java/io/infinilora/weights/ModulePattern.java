package io.infinilora.weights;

import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/**
 * A regular expression from an adapter's configuration, matched against whole module names with a
 * bound on the effort: an expression that backtracks without end must not hold up the service.
 */
final class ModulePattern {

  private static final int MAX_LENGTH = 1000;

  private final Pattern pattern;

  private ModulePattern(Pattern pattern) {
    this.pattern = pattern;
  }

  /**
   * What all matches of an adapter may cost: a matcher's looks at the text are counted, since the
   * matcher itself cannot be bounded.
   */
  static final class Effort {
    private static final int MAX_STEPS_PER_MATCH = 1_000_000;
    private static final long MAX_STEPS = 500_000_000;

    private long steps;
    private long limit;

    private void begin() {
      limit = Math.min(MAX_STEPS, steps + MAX_STEPS_PER_MATCH);
    }

    private void step(Pattern pattern) {
      if (++steps > limit) {
        throw new TooExpensiveException(pattern);
      }
    }
  }

  /** An expression took too long to match. */
  static final class TooExpensiveException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private TooExpensiveException(Pattern pattern) {
      super("has the expression \"" + pattern + "\", which takes too long to match");
    }
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
   * @throws TooExpensiveException if that takes too long to say
   */
  boolean matches(String module, Effort effort) {
    effort.begin();
    try {
      return pattern.matcher(new Metered(module, pattern, effort)).matches();
    } catch (StackOverflowError e) {
      throw new TooExpensiveException(pattern);
    }
  }

  /** A text that counts how often it is looked at. */
  private record Metered(String text, Pattern pattern, Effort effort) implements CharSequence {

    @Override
    public char charAt(int index) {
      effort.step(pattern);
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
