package io.infinilora.cli;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntConsumer;

/** Greedy completions of token ids, as a client sees them arrive. */
final class TokenStream {
  private static final ObjectMapper JSON = new ObjectMapper();

  private final HttpClient client;
  private final String url;

  TokenStream(HttpClient client, String url) {
    this.client = client;
    this.url = url;
  }

  /**
   * Streams a completion.
   *
   * @param seen is told how many tokens have come, whenever some have
   * @throws IllegalStateException with what the server said if it is refused or breaks off
   */
  List<Integer> complete(String model, int[] prompt, int maxTokens, IntConsumer seen)
      throws IOException, InterruptedException {
    HttpResponse<java.io.InputStream> response =
        client.send(request(model, prompt, maxTokens), HttpResponse.BodyHandlers.ofInputStream());
    List<Integer> tokens = new ArrayList<>();
    try (BufferedReader lines =
        new BufferedReader(new InputStreamReader(response.body(), StandardCharsets.UTF_8))) {
      if (response.statusCode() != 200) {
        throw new IllegalStateException(
            response.statusCode() + " " + String.join("\n", lines.lines().toList()));
      }
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        if (line.equals("data: [DONE]")) {
          return tokens;
        }
        if (line.startsWith("data: ")) {
          add(JSON.readTree(line.substring("data: ".length())), tokens);
          seen.accept(tokens.size());
        }
      }
    }
    throw new IllegalStateException("the stream broke off after " + tokens);
  }

  private static void add(JsonNode event, List<Integer> tokens) {
    if (event.has("error")) {
      throw new IllegalStateException("after " + tokens + ": " + event);
    }
    for (JsonNode choice : event.path("choices")) {
      choice.path("token_ids").forEach(id -> tokens.add(id.asInt()));
    }
  }

  private HttpRequest request(String model, int[] prompt, int maxTokens) throws IOException {
    String body =
        JSON.writeValueAsString(
            JSON.createObjectNode()
                .put("model", model)
                .put("max_tokens", maxTokens)
                .put("temperature", 0)
                .put("stream", true)
                .put("ignore_eos", true)
                .put("return_token_ids", true)
                .set("prompt", JSON.valueToTree(prompt)));
    return HttpRequest.newBuilder(URI.create(url + "/v1/completions"))
        .header("Content-Type", "application/json")
        .POST(HttpRequest.BodyPublishers.ofString(body))
        .build();
  }
}
