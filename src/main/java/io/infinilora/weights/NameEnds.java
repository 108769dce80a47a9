package io.infinilora.weights;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Set;

/** Names or last parts of names, as configurations list them. */
final class NameEnds {

  private final Set<String> ends;

  NameEnds(Collection<String> ends) {
    this.ends = Set.copyOf(ends);
  }

  /** Those that are the name itself or what follows one of its dots. */
  List<String> of(String name) {
    List<String> result = new ArrayList<>();
    int from = 0;
    do {
      String end = name.substring(from);
      if (ends.contains(end)) {
        result.add(end);
      }
      from = name.indexOf('.', from) + 1;
    } while (from > 0);
    return result;
  }
}
