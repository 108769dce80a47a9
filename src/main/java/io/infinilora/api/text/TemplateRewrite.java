package io.infinilora.api.text;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Writes what jinjava cannot parse in another way that means the same. */
final class TemplateRewrite {
  /** A list read backwards: {@code messages[::-1]}. jinjava's slices have no step. */
  private static final Pattern REVERSED =
      Pattern.compile("([\\w.]+(?:\\[['\"]?\\w+['\"]?\\])*)\\[::-1\\]");

  private static final String NAMESPACE = "namespace(";
  private static final Pattern KEYWORD = Pattern.compile("\\s*\\w+\\s*=(?!=)");

  private TemplateRewrite() {}

  /** The source for jinjava. */
  static String rewrite(String source) {
    // As Jinja does: a newline at the very end belongs to the file, not to the text.
    String text = source.endsWith("\n") ? source.substring(0, source.length() - 1) : source;
    return parenthesise(REVERSED.matcher(text).replaceAll("($1|reverse|list)"));
  }

  /**
   * Puts the arguments of {@code namespace(name=value)} into parentheses: jinjava binds the equals
   * sign stronger than any operator of the value.
   */
  private static String parenthesise(String source) {
    StringBuilder out = new StringBuilder(source.length());
    int from = 0;
    for (int at = source.indexOf(NAMESPACE); at >= 0; at = source.indexOf(NAMESPACE, from)) {
      int start = at + NAMESPACE.length();
      out.append(source, from, start);
      from = arguments(source, start, out);
    }
    return out.append(source, from, source.length()).toString();
  }

  /** Appends the arguments that begin at {@code start}; returns the index of what ends them. */
  private static int arguments(String source, int start, StringBuilder out) {
    int depth = 0;
    char quote = 0;
    int argument = start;
    for (int i = start; i < source.length(); i++) {
      char c = source.charAt(i);
      if (quote != 0) {
        quote = c == quote ? 0 : quote;
      } else if (c == '\'' || c == '"') {
        quote = c;
      } else if ("([{".indexOf(c) >= 0) {
        depth++;
      } else if (depth > 0 && ")]}".indexOf(c) >= 0) {
        depth--;
      } else if (depth == 0 && (c == ',' || c == ')')) {
        out.append(parenthesised(source.substring(argument, i)));
        if (c == ')') {
          return i;
        }
        out.append(c);
        argument = i + 1;
      }
    }
    out.append(source, argument, source.length()); // not closed: jinjava reports it
    return source.length();
  }

  private static String parenthesised(String argument) {
    Matcher keyword = KEYWORD.matcher(argument);
    return keyword.lookingAt()
        ? keyword.group() + "(" + argument.substring(keyword.end()).strip() + ")"
        : argument;
  }
}
