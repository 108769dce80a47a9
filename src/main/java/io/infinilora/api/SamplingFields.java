package io.infinilora.api;

import com.fasterxml.jackson.databind.JsonNode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.SamplingParams;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;

/**
 * The sampling fields of a request. {@link SamplingParams} checks the ranges.
 *
 * @param seed seed of the first choice
 * @param logprobs alternatives per token, or -1
 */
record SamplingFields(
    double temperature,
    double topP,
    int topK,
    double minP,
    double repetitionPenalty,
    double presencePenalty,
    double frequencyPenalty,
    long seed,
    Map<Integer, Double> logitBias,
    List<Integer> stopTokens,
    boolean ignoreEos,
    int logprobs) {

  /** Fractional part of the golden ratio, in 64 bits: the increment of SplitMix64. */
  private static final long GOLDEN_GAMMA = 0x9E3779B97F4A7C15L;

  /** Reads them; without a seed one is drawn. */
  static SamplingFields of(RequestFields fields, int logprobs, int vocab) {
    SamplingFields sampling =
        new SamplingFields(
            fields.number("temperature", 1),
            fields.number("top_p", 1),
            // vLLM's clients switch it off with -1.
            Math.max(0, fields.integer("top_k", -1, Integer.MAX_VALUE).orElse(0)),
            fields.number("min_p", 0),
            fields.number("repetition_penalty", 1),
            fields.number("presence_penalty", 0),
            fields.number("frequency_penalty", 0),
            fields.integer("seed").orElseGet(() -> ThreadLocalRandom.current().nextLong()),
            logitBias(fields, vocab),
            stopTokens(fields, vocab),
            fields.bool("ignore_eos", false),
            logprobs);
    checkRanges(sampling);
    return sampling;
  }

  /** Before any work is done. The messages begin with the field's name. */
  private static void checkRanges(SamplingFields sampling) {
    try {
      sampling.params(1, 0);
    } catch (InfiniLoraException e) {
      String[] parts = e.getMessage().split(" ", 2);
      throw new InvalidFieldException(parts[0], parts[1]);
    }
  }

  /**
   * The engine's parameters for one choice of a prompt. Choice 0 uses the seed itself, so that it
   * is the same whatever {@code n} is.
   */
  SamplingParams params(int maxTokens, int choice) {
    return new SamplingParams(
        temperature,
        topP,
        topK,
        minP,
        repetitionPenalty,
        presencePenalty,
        frequencyPenalty,
        seed + choice * GOLDEN_GAMMA,
        logitBias,
        stopTokens,
        maxTokens,
        ignoreEos,
        logprobs);
  }

  private static Map<Integer, Double> logitBias(RequestFields fields, int vocab) {
    JsonNode node = fields.get("logit_bias");
    if (node == null) {
      return Map.of();
    }
    Map<Integer, Double> bias = new HashMap<>();
    RequestFields.of(node, "logit_bias")
        .object()
        .properties()
        .forEach(
            entry -> {
              String name = "logit_bias[" + entry.getKey() + "]";
              int token;
              try {
                token = Integer.parseInt(entry.getKey());
              } catch (NumberFormatException e) {
                throw new InvalidFieldException(name, "must have a token id as its key");
              }
              checkToken(name, token, vocab);
              bias.put(token, RequestFields.number(entry.getValue(), name));
            });
    return bias;
  }

  private static List<Integer> stopTokens(RequestFields fields, int vocab) {
    JsonNode node = fields.get("stop_token_ids");
    if (node == null) {
      return List.of();
    }
    if (!node.isArray()) {
      throw RequestFields.wrongType("stop_token_ids", "an array of token ids", node);
    }
    List<Integer> tokens = new ArrayList<>();
    for (JsonNode item : node) {
      tokens.add(token(item, "stop_token_ids[" + tokens.size() + "]", vocab));
    }
    return tokens;
  }

  /** A token id inside a body. */
  static int token(JsonNode node, String name, int vocab) {
    if (!node.isIntegralNumber()) {
      throw RequestFields.wrongType(name, "a token id", node);
    }
    int token = node.canConvertToInt() ? node.intValue() : -1;
    checkToken(name, token, vocab);
    return token;
  }

  private static void checkToken(String name, int token, int vocab) {
    if (token < 0 || token >= vocab) {
      throw new InvalidFieldException(
          name, "must be a token id of the vocabulary, from 0 to " + (vocab - 1));
    }
  }
}
