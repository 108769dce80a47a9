package io.infinilora.api.text;

import com.hubspot.jinjava.interpret.JinjavaInterpreter;
import com.hubspot.jinjava.lib.filter.Filter;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** {@code items}: the pairs of a mapping. */
final class ItemsFilter implements Filter {
  @Override
  public String getName() {
    return "items";
  }

  @Override
  public Object filter(Object value, JinjavaInterpreter interpreter, String... arguments) {
    if (!(value instanceof Map<?, ?> map)) {
      throw new IllegalArgumentException("items needs a mapping");
    }
    List<Object> pairs = new ArrayList<>(map.size());
    map.forEach((k, v) -> pairs.add(List.of(k, v)));
    return pairs;
  }
}
