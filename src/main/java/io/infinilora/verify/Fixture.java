package io.infinilora.verify;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.FileProblem;
import io.infinilora.core.InfiniLoraException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.stream.Stream;

/**
 * A model folder with what an independent implementation made of it: {@code expected.json} (prompts
 * and greedy tokens), {@code expected.safetensors} (float32 logits {@code [positions, vocab]}) and,
 * where present, {@code mixed_batch.json}.
 *
 * @param directory the folder; also the checkpoint
 * @param cases single prompts, each with an adapter or none
 * @param mixedBatch requests to be run at the same time; may be empty
 */
record Fixture(Path directory, List<Case> cases, List<Mixed> mixedBatch) {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String EXPECTED = "expected.json";
  private static final String MIXED = "mixed_batch.json";

  /**
   * One prompt under one adapter.
   *
   * @param name e.g. {@code a1.p2}
   * @param logitsKey tensor of the expected logits
   * @param allPositions whether the tensor has every position or the last only
   * @param greedy expected tokens
   * @param gaps distance of the best two logits at each of them; empty if not known
   */
  record Case(
      String name,
      Optional<String> adapter,
      int[] prompt,
      String logitsKey,
      boolean allPositions,
      int[] greedy,
      double[] gaps) {

    /** What adapter choice it belongs to: the part of the name before the dot. */
    String variant() {
      return name.substring(0, name.indexOf('.'));
    }
  }

  /** One request of the mixed batch. */
  record Mixed(String id, Optional<String> adapter, int[] prompt, int[] expected) {}

  String name() {
    return directory.getFileName().toString();
  }

  /** Folders below {@code root} that hold a fixture, or {@code root} itself, by name. */
  static List<Path> find(Path root) {
    if (Files.isRegularFile(root.resolve(EXPECTED))) {
      return List.of(root);
    }
    try (Stream<Path> entries = Files.list(root)) {
      return entries.filter(p -> Files.isRegularFile(p.resolve(EXPECTED))).sorted().toList();
    } catch (IOException e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG, "cannot list %s: %s".formatted(root, FileProblem.of(e)), e);
    }
  }

  /** Reads the expectations; not the weights. */
  static Fixture read(Path directory) {
    JsonNode expected = json(directory.resolve(EXPECTED));
    Map<String, JsonNode> prompts = new TreeMap<>();
    expected.required("prompts").forEach(p -> prompts.put(p.required("id").asText(), p));
    List<Case> cases = new ArrayList<>();
    for (Map.Entry<String, JsonNode> variant : expected.required("variants").properties()) {
      Optional<String> adapter = text(variant.getValue().get("adapter"));
      for (Map.Entry<String, JsonNode> entry : variant.getValue().required("cases").properties()) {
        JsonNode prompt = prompts.get(entry.getKey());
        if (prompt == null) {
          throw new InfiniLoraException(
              ErrorCode.BAD_CONFIG,
              "%s: case %s has no prompt".formatted(directory, entry.getKey()));
        }
        cases.add(
            new Case(
                variant.getKey() + "." + entry.getKey(),
                adapter,
                ints(prompt.required("token_ids")),
                entry.getValue().required("logits_key").asText(),
                prompt.required("logits").asText().equals("all"),
                ints(entry.getValue().required("greedy")),
                doubles(entry.getValue().path("step_logit_gaps"))));
      }
    }
    return new Fixture(directory, cases, mixed(directory));
  }

  private static List<Mixed> mixed(Path directory) {
    Path file = directory.resolve(MIXED);
    List<Mixed> requests = new ArrayList<>();
    if (Files.isRegularFile(file)) {
      for (JsonNode r : json(file).required("requests")) {
        requests.add(
            new Mixed(
                r.required("id").asText(),
                text(r.get("adapter")),
                ints(r.required("prompt_token_ids")),
                ints(r.required("expected_token_ids"))));
      }
    }
    return requests;
  }

  private static Optional<String> text(JsonNode node) {
    return node == null || node.isNull() ? Optional.empty() : Optional.of(node.asText());
  }

  private static int[] ints(JsonNode array) {
    int[] values = new int[array.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = array.get(i).asInt();
    }
    return values;
  }

  private static double[] doubles(JsonNode array) {
    double[] values = new double[array.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = array.get(i).asDouble();
    }
    return values;
  }

  private static JsonNode json(Path file) {
    try {
      return JSON.readTree(file.toFile());
    } catch (IOException e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG, "%s: not a readable fixture (%s)".formatted(file, e), e);
    }
  }
}
