package io.infinilora.api.text;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.util.DefaultIndenter;
import com.fasterxml.jackson.core.util.DefaultPrettyPrinter;
import com.fasterxml.jackson.core.util.Separators;
import com.fasterxml.jackson.core.util.Separators.Spacing;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.hubspot.jinjava.interpret.JinjavaInterpreter;
import com.hubspot.jinjava.lib.filter.Filter;
import java.util.Map;

/**
 * {@code tojson} with the spaces of Python's {@code json.dumps}, which models were trained on: one
 * after each colon and comma, or lines indented by {@code indent}.
 */
final class ToJsonFilter implements Filter {
  private static final ObjectMapper MAPPER = new ObjectMapper();

  @Override
  public String getName() {
    return "tojson";
  }

  @Override
  public Object filter(Object value, JinjavaInterpreter interpreter, String... arguments) {
    return write(value, arguments.length > 0 ? Integer.parseInt(arguments[0]) : 0);
  }

  @Override
  public Object filter(
      Object value, JinjavaInterpreter interpreter, Object[] arguments, Map<String, Object> named) {
    Object indent = arguments.length > 0 ? arguments[0] : named.get("indent");
    return write(value, indent instanceof Number n ? n.intValue() : 0);
  }

  private static String write(Object value, int indent) {
    DefaultPrettyPrinter printer =
        new DefaultPrettyPrinter(
            Separators.createDefaultInstance()
                .withObjectFieldValueSpacing(Spacing.AFTER)
                .withObjectEntrySpacing(indent > 0 ? Spacing.NONE : Spacing.AFTER)
                .withArrayValueSpacing(indent > 0 ? Spacing.NONE : Spacing.AFTER)
                .withObjectEmptySeparator("")
                .withArrayEmptySeparator(""));
    DefaultPrettyPrinter.Indenter indenter =
        indent > 0
            ? new DefaultIndenter(" ".repeat(indent), "\n")
            : DefaultPrettyPrinter.NopIndenter.instance;
    printer.indentArraysWith(indenter);
    printer.indentObjectsWith(indenter);
    try {
      return MAPPER.writer(printer).writeValueAsString(value);
    } catch (JsonProcessingException e) {
      throw new IllegalArgumentException("tojson: " + e.getOriginalMessage(), e);
    }
  }
}
