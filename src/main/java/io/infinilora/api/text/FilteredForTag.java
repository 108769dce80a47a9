package io.infinilora.api.text;

import com.hubspot.jinjava.interpret.JinjavaInterpreter;
import com.hubspot.jinjava.lib.tag.ForTag;
import com.hubspot.jinjava.tree.TagNode;
import com.hubspot.jinjava.tree.parse.TagToken;
import com.hubspot.jinjava.util.ObjectTruthValue;
import java.util.ArrayList;
import java.util.List;

/** {@code for x in list if condition}: jinjava's own tag yields nothing for such loops. */
final class FilteredForTag extends ForTag {
  private static final long serialVersionUID = 1L;

  private static final String IF = " if ";

  @Override
  public String interpretUnchecked(TagNode node, JinjavaInterpreter interpreter) {
    var loop = getLoopVarsAndExpression((TagToken) node.getMaster());
    String expression = loop.getRight();
    int split = topLevelIf(expression);
    if (split < 0) {
      return super.interpretUnchecked(node, interpreter);
    }
    List<String> variables = loop.getLeft();
    if (variables.size() != 1) {
      throw new IllegalArgumentException(
          "a for loop over several variables cannot have a condition: " + expression);
    }
    String condition = expression.substring(split + IF.length());
    Object items =
        interpreter.resolveELExpression(expression.substring(0, split), node.getLineNumber());
    if (!(items instanceof Iterable<?> iterable)) {
      throw new IllegalArgumentException("not a list: " + expression.substring(0, split));
    }
    List<Object> chosen = new ArrayList<>();
    for (Object item : iterable) {
      interpreter.enterScope();
      try {
        interpreter.getContext().put(variables.getFirst(), item);
        if (ObjectTruthValue.evaluate(
            interpreter.resolveELExpression(condition, node.getLineNumber()))) {
          chosen.add(item);
        }
      } finally {
        interpreter.leaveScope();
      }
    }
    return renderForCollection(node, interpreter, variables, chosen);
  }

  /**
   * Where the condition begins. In Jinja's grammar a conditional expression cannot stand here
   * without parentheses, so the first {@code if} outside of brackets and quotes is the filter.
   */
  private static int topLevelIf(String expression) {
    int depth = 0;
    char quote = 0;
    for (int i = 0; i < expression.length(); i++) {
      char c = expression.charAt(i);
      if (quote != 0) {
        quote = c == quote ? 0 : quote;
      } else if (c == '\'' || c == '"') {
        quote = c;
      } else if (c == '(' || c == '[' || c == '{') {
        depth++;
      } else if (c == ')' || c == ']' || c == '}') {
        depth--;
      } else if (depth == 0 && expression.startsWith(IF, i)) {
        return i;
      }
    }
    return -1;
  }
}
