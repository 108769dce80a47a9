package io.infinilora.wire;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.AdapterId;
import org.junit.jupiter.api.Test;

class AdapterIndexTest {
  private final AdapterIndex index = new AdapterIndex();

  private static AdapterId id(String name, int content) {
    return new AdapterId(name, Integer.toString(content));
  }

  @Test
  void aReplacementTakesTheOldPlaceAndANewOneTheLast() {
    index.put(id("b", 0));
    index.put(id("a", 0));
    index.put(id("b", 1));
    assertThat(index.list()).containsExactly(id("b", 1), id("a", 0));
    assertThat(index.find("b")).contains(id("b", 1));

    index.remove("b");
    index.remove("c");
    assertThat(index.find("b")).isEmpty();
    index.put(id("b", 2));
    assertThat(index.list()).containsExactly(id("a", 0), id("b", 2));
  }
}
