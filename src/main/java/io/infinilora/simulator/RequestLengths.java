package io.infinilora.simulator;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Objects;

/**
 * How long a request is.
 *
 * @param prompt prompt tokens, at least 1
 * @param output generated tokens, at least 1
 */
public record RequestLengths(int prompt, int output) {
  private static final String CONVERSATIONS = "azure-llm-2023-conversations.csv";

  /**
   * A sample of 1,020 production requests: the conversations of the Azure LLM inference trace 2023.
   * The README beside the resource says whose it is.
   */
  public static List<RequestLengths> conversations() {
    try (BufferedReader reader =
        new BufferedReader(
            new InputStreamReader(
                Objects.requireNonNull(
                    RequestLengths.class.getResourceAsStream(CONVERSATIONS), CONVERSATIONS),
                StandardCharsets.UTF_8))) {
      return reader.lines().skip(1).map(RequestLengths::parse).toList();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static RequestLengths parse(String line) {
    int comma = line.indexOf(',');
    return new RequestLengths(
        Integer.parseInt(line.substring(0, comma)), Integer.parseInt(line.substring(comma + 1)));
  }
}
