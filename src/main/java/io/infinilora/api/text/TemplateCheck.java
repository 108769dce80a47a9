package io.infinilora.api.text;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Optional;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Finds in a template what jinjava would skip without an error. */
final class TemplateCheck {
  private static final Pattern BLOCK =
      Pattern.compile(
          "\\{#.*?#\\}|\\{\\{(?<expression>(?:'[^']*'|\"[^\"]*\"|.)*?)\\}\\}"
              + "|\\{%(?<statement>(?:'[^']*'|\"[^\"]*\"|.)*?)%\\}",
          Pattern.DOTALL);
  private static final Pattern LITERAL = Pattern.compile("'[^']*'|\"[^\"]*\"");
  private static final Pattern FILTER = Pattern.compile("\\|\\s*([A-Za-z_]\\w*)");
  private static final Pattern TEST = Pattern.compile("\\bis\\s+(?:not\\s+)?([A-Za-z_]\\w*)");
  private static final Pattern TAG = Pattern.compile("^[-+]?\\s*(\\w+)");

  private final Predicate<String> knownFilter;
  private final Predicate<String> knownTest;
  private final Deque<String> open = new ArrayDeque<>();

  private TemplateCheck(Predicate<String> knownFilter, Predicate<String> knownTest) {
    this.knownFilter = knownFilter;
    this.knownTest = knownTest;
  }

  /** The first problem: an unknown filter or test, or {@code else} of a {@code for}. */
  static Optional<String> problem(
      String source, Predicate<String> knownFilter, Predicate<String> knownTest) {
    TemplateCheck check = new TemplateCheck(knownFilter, knownTest);
    Matcher block = BLOCK.matcher(source);
    while (block.find()) {
      String statement = block.group("statement");
      String code = statement == null ? block.group("expression") : statement;
      if (code == null) {
        continue; // a comment
      }
      String names = LITERAL.matcher(code).replaceAll("''");
      Optional<String> problem =
          unknown("filter", FILTER.matcher(names), check.knownFilter)
              .or(() -> unknown("test", TEST.matcher(names), check.knownTest));
      if (problem.isEmpty() && statement != null) {
        problem = check.nesting(statement);
      }
      if (problem.isPresent()) {
        return problem;
      }
    }
    return Optional.empty();
  }

  private static Optional<String> unknown(String kind, Matcher uses, Predicate<String> known) {
    while (uses.find()) {
      if (!known.test(uses.group(1))) {
        return Optional.of("%s '%s' is not supported".formatted(kind, uses.group(1)));
      }
    }
    return Optional.empty();
  }

  private Optional<String> nesting(String statement) {
    Matcher tag = TAG.matcher(statement);
    if (!tag.find()) {
      return Optional.empty();
    }
    String name = tag.group(1);
    if (name.equals("for") || name.equals("if")) {
      open.push(name);
    } else if (name.equals("endfor") || name.equals("endif")) {
      open.poll();
    } else if (name.equals("else") && "for".equals(open.peek())) {
      return Optional.of("'else' of a 'for' loop is not supported");
    }
    return Optional.empty();
  }
}
