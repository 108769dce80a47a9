package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.OptionalDouble;
import java.util.Random;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PatternValuesTest {

  /** Tries every key in order, as PEFT does. */
  private static OptionalDouble tryAll(List<String> keys, String module) {
    for (int i = 0; i < keys.size(); i++) {
      if (Pattern.matches("(.*\\.)?(" + keys.get(i) + ")", module)) {
        return OptionalDouble.of(i);
      }
    }
    return OptionalDouble.empty();
  }

  @Test
  void theFirstKeyThatMatchesWins() {
    // Letters that a dot can stand for, so that keys of one length match in several ways.
    String[] parts = {"a", "b", "aa", "a_a", "1", "a.b", ".", "-", "[ab]", "(a|1)", "a*", "\\d"};
    Random random = new Random(5);
    int matched = 0;
    for (int round = 0; round < 300; round++) {
      Set<String> keys = new LinkedHashSet<>();
      while (keys.size() < 6) {
        keys.add(joined(random, parts, 1 + random.nextInt(3)));
      }
      List<String> inOrder = new ArrayList<>(keys);
      PatternValues values = new PatternValues();
      for (int i = 0; i < inOrder.size(); i++) {
        values.add(inOrder.get(i), i);
      }
      for (int i = 0; i < 20; i++) {
        String module = joined(random, new String[] {"a", "b", "aa", "a_a", "1", "aab"}, 3);
        OptionalDouble expected = tryAll(inOrder, module);
        matched += expected.isPresent() ? 1 : 0;
        assertThat(values.of(module, new ModulePattern.Effort()))
            .as("%s among %s", module, inOrder)
            .isEqualTo(expected);
      }
    }
    assertThat(matched).isGreaterThan(1000);
  }

  private static String joined(Random random, String[] parts, int count) {
    return random
        .ints(count, 0, parts.length)
        .mapToObj(i -> parts[i])
        .collect(Collectors.joining(random.nextInt(5) == 0 ? "" : "."));
  }

  /** Trying every key on every module would exceed the bound on the effort by far. */
  @Test
  void aKeyForEachOfManyModulesIsLookedUp(@TempDir Path folder) throws IOException {
    int experts = 2000;
    SafetensorsBuilder tensors = new SafetensorsBuilder();
    StringBuilder ranks = new StringBuilder("{");
    for (int layer = 0; layer < 2; layer++) {
      for (int expert = 0; expert < experts; expert++) {
        for (String projection : List.of("gate_proj", "up_proj")) {
          String module = "model.layers.%d.mlp.experts.%d.%s".formatted(layer, expert, projection);
          int rank = 1 + expert % 2;
          ranks.append(ranks.length() > 1 ? "," : "").append("\"%s\":%d".formatted(module, rank));
          tensors.filled("base_model.model." + module + ".lora_A.weight", 1, rank, 16);
          tensors.filled("base_model.model." + module + ".lora_B.weight", 1, 6, rank);
        }
      }
    }
    tensors.write(folder.resolve("adapter_model.safetensors"));
    Files.writeString(
        folder.resolve("adapter_config.json"),
        """
        {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": "all-linear",
         "rank_pattern": %s}}"""
            .formatted(ranks));
    try (PeftAdapter adapter =
        PeftAdapter.open(folder, MoeSpecs.of("qwen3_moe", 16, new int[] {2, 1, 8}, 6, experts))) {
      assertThat(adapter.modules()).hasSize(4 * experts);
      assertThat(adapter.maxRank()).isEqualTo(2);
    }
  }
}
