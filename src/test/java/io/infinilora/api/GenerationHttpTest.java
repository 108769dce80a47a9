package io.infinilora.api;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.fake.Script;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Completions and chats over HTTP: what is generated, and in which shape it comes back. */
class GenerationHttpTest {
  private final ServerFixture server = new ServerFixture().open();

  @AfterEach
  void close() {
    server.close();
  }

  private JsonNode ok(String path, String body) {
    HttpResponse<String> response = server.post(path, body);
    assertThat(response.statusCode()).as(response.body()).isEqualTo(200);
    return ServerFixture.json(response.body());
  }

  private JsonNode chat(String fields) {
    return ok(
        "/v1/chat/completions",
        "{\"model\":\"base-model\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]%s}"
            .formatted(fields));
  }

  private JsonNode text(String fields) {
    return ok("/v1/completions", "{\"model\":\"base-model\"%s}".formatted(fields));
  }

  private List<JsonNode> events(String path, String body) {
    HttpResponse<String> response = server.post(path, body);
    assertThat(response.statusCode()).as(response.body()).isEqualTo(200);
    assertThat(response.headers().firstValue("content-type").orElseThrow())
        .startsWith("text/event-stream");
    String[] parts = response.body().split("\n\n");
    assertThat(parts[parts.length - 1]).isEqualTo("data: [DONE]");
    List<JsonNode> events = new ArrayList<>();
    for (int i = 0; i < parts.length - 1; i++) {
      assertThat(parts[i]).startsWith("data: ");
      events.add(ServerFixture.json(parts[i].substring("data: ".length())));
    }
    return events;
  }

  @Test
  void answersAChatInOpenAiShape() {
    JsonNode answer = chat("");

    assertThat(answer.path("object").asText()).isEqualTo("chat.completion");
    assertThat(answer.path("id").asText()).startsWith("chatcmpl-");
    assertThat(answer.path("model").asText()).isEqualTo("base-model");
    JsonNode choice = answer.path("choices").path(0);
    assertThat(choice.path("message").path("role").asText()).isEqualTo("assistant");
    assertThat(choice.path("message").path("content").asText()).isEqualTo("Hello, you!");
    assertThat(choice.path("finish_reason").asText()).isEqualTo("stop");
    assertThat(answer.path("usage").path("prompt_tokens").asInt()).isEqualTo(19);
    assertThat(answer.path("usage").path("completion_tokens").asInt()).isEqualTo(11);
    assertThat(answer.path("usage").path("total_tokens").asInt()).isEqualTo(30);
  }

  @Test
  void rendersTheTemplateAndFillsTheContext() {
    chat("");

    GenerateRequest request = server.engine.requests.peek();
    assertThat(server.onlyPrompt()).isEqualTo("user: Hi\nassistant:");
    assertThat(request.adapter()).isEmpty();
    assertThat(request.sampling().maxTokens()).isEqualTo(256 - 19);
    assertThat(request.sampling().temperature()).isEqualTo(1);
  }

  @Test
  void streamsAChatWithTheRoleFirst() {
    List<JsonNode> events =
        events(
            "/v1/chat/completions",
            """
            {"model":"pirate","stream":true,"stream_options":{"include_usage":true},
             "messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}""");

    JsonNode first = events.getFirst().path("choices").path(0).path("delta");
    assertThat(first.path("role").asText()).isEqualTo("assistant");
    StringBuilder text = new StringBuilder();
    for (JsonNode event : events) {
      assertThat(event.path("object").asText()).isEqualTo("chat.completion.chunk");
      assertThat(event.path("model").asText()).isEqualTo("pirate");
      text.append(event.path("choices").path(0).path("delta").path("content").asText(""));
    }
    assertThat(text).hasToString("Hello, you!");
    assertThat(events.getLast().path("choices")).isEmpty();
    assertThat(events.getLast().path("usage").path("completion_tokens").asInt()).isEqualTo(11);
    JsonNode end = events.get(events.size() - 2);
    assertThat(end.path("choices").path(0).path("finish_reason").asText()).isEqualTo("stop");
    assertThat(end.has("usage")).isTrue();
    assertThat(end.path("usage").isNull()).isTrue();
    assertThat(server.engine.requests.remove().adapter()).contains("pirate");
  }

  @Test
  void streamsACompletion() {
    List<JsonNode> events =
        events("/v1/completions", "{\"model\":\"base-model\",\"prompt\":\"x\",\"stream\":true}");

    StringBuilder text = new StringBuilder();
    for (JsonNode event : events) {
      assertThat(event.path("object").asText()).isEqualTo("text_completion");
      assertThat(event.has("usage")).isFalse();
      text.append(event.path("choices").path(0).path("text").asText());
    }
    assertThat(text).hasToString("Hello, you!");
  }

  @Test
  void neverStreamsHalfACharacter() {
    server.engine.plays(Script.tokens(server.tokens("é 😀!")));

    List<JsonNode> events =
        events("/v1/completions", "{\"model\":\"base-model\",\"prompt\":\"x\",\"stream\":true}");

    assertThat(events.stream().map(e -> e.path("choices").path(0).path("text").asText()))
        .containsExactly("é", " ", "😀", "!", "");
  }

  @Test
  void takesAllFormsOfPrompts() {
    text(",\"prompt\":\"ab\"");
    assertThat(server.engine.requests.remove().prompt()).containsExactly(256, 'a', 'b');
    text(",\"prompt\":[5,6]");
    assertThat(server.engine.requests.remove().prompt()).containsExactly(5, 6);
    JsonNode two = text(",\"prompt\":[\"a\",\"b\"]");
    assertThat(server.engine.requests.remove().prompt()).containsExactly(256, 'a');
    assertThat(server.engine.requests.remove().prompt()).containsExactly(256, 'b');
    assertThat(two.path("choices")).hasSize(2);
    assertThat(two.path("choices").path(1).path("index").asInt()).isEqualTo(1);
    text(",\"prompt\":[[7],[8,9]]");
    assertThat(server.engine.requests.remove().prompt()).containsExactly(7);
    assertThat(server.engine.requests.remove().prompt()).containsExactly(8, 9);
  }

  @Test
  void cutsAtAStopStringAcrossTokensAndCancels() {
    server.engine.plays(Script.tokens(server.tokens("Hello, you!" + ".".repeat(100))));

    JsonNode answer = chat(",\"stop\":[\"lo, y\",\"zzz\"]");

    JsonNode choice = answer.path("choices").path(0);
    assertThat(choice.path("message").path("content").asText()).isEqualTo("Hel");
    assertThat(choice.path("finish_reason").asText()).isEqualTo("stop");
    assertThat(server.engine.cancelled).hasValue(1);
    assertThat(server.engine.active).hasValue(0);
  }

  @Test
  void finishesWithLengthAtMaxTokens() {
    JsonNode choice = chat(",\"max_completion_tokens\":4").path("choices").path(0);

    assertThat(choice.path("message").path("content").asText()).isEqualTo("Hell");
    assertThat(choice.path("finish_reason").asText()).isEqualTo("length");
  }

  @Test
  void derivesTheSeedsOfSeveralChoicesFromTheRequests() {
    JsonNode answer = chat(",\"n\":3,\"seed\":42");

    assertThat(answer.path("choices")).hasSize(3);
    assertThat(answer.path("usage").path("prompt_tokens").asInt()).isEqualTo(19);
    assertThat(answer.path("usage").path("completion_tokens").asInt()).isEqualTo(33);
    List<Long> seeds = server.engine.requests.stream().map(r -> r.sampling().seed()).toList();
    assertThat(seeds).doesNotHaveDuplicates().hasSize(3).startsWith(42L);
    assertThat(server.engine.requests.stream().map(GenerateRequest::id)).doesNotHaveDuplicates();
  }

  @Test
  void passesSamplingFieldsOn() {
    text(
        """
        ,"prompt":"x","temperature":0.5,"top_p":0.9,"top_k":7,"min_p":0.1,"repetition_penalty":1.2,
        "presence_penalty":0.3,"frequency_penalty":-0.4,"seed":-1,"logit_bias":{"5":-100},
        "stop_token_ids":[3],"ignore_eos":true,"max_tokens":9,"user":"u","unknown":{}""");

    var s = server.engine.requests.remove().sampling();
    assertThat(s.temperature()).isEqualTo(0.5);
    assertThat(s.topP()).isEqualTo(0.9);
    assertThat(s.topK()).isEqualTo(7);
    assertThat(s.minP()).isEqualTo(0.1);
    assertThat(s.repetitionPenalty()).isEqualTo(1.2);
    assertThat(s.presencePenalty()).isEqualTo(0.3);
    assertThat(s.frequencyPenalty()).isEqualTo(-0.4);
    assertThat(s.seed()).isEqualTo(-1);
    assertThat(s.logitBias()).containsExactly(Map.entry(5, -100.0));
    assertThat(s.stopTokens()).containsExactly(3);
    assertThat(s.ignoreEos()).isTrue();
    assertThat(s.maxTokens()).isEqualTo(9);
    assertThat(s.logprobs()).isEqualTo(-1);
  }

  @Test
  void reportsChatLogprobs() {
    JsonNode choice = chat(",\"logprobs\":true,\"top_logprobs\":2").path("choices").path(0);

    JsonNode content = choice.path("logprobs").path("content");
    assertThat(content).hasSize(11);
    assertThat(content.path(0).path("token").asText()).isEqualTo("H");
    assertThat(content.path(0).path("bytes").path(0).asInt()).isEqualTo('H');
    assertThat(content.path(0).path("logprob").floatValue()).isEqualTo(-0.72f);
    assertThat(content.path(0).path("top_logprobs")).hasSize(2);
    assertThat(content.path(0).path("top_logprobs").path(1).path("token").asText()).isEqualTo("I");
  }

  @Test
  void echoesThePromptWithItsLogprobs() {
    JsonNode choice =
        text(",\"prompt\":\"ab\",\"echo\":true,\"logprobs\":1,\"max_tokens\":2")
            .path("choices")
            .path(0);

    assertThat(choice.path("text").asText()).isEqualTo("abHe");
    JsonNode logprobs = choice.path("logprobs");
    assertThat(logprobs.path("tokens").toString()).isEqualTo("[\"<s>\",\"a\",\"b\",\"H\",\"e\"]");
    assertThat(logprobs.path("text_offset").toString()).isEqualTo("[0,0,1,2,3]");
    assertThat(logprobs.path("token_logprobs").path(0).isNull()).isTrue();
    assertThat(logprobs.path("token_logprobs").path(1).floatValue()).isEqualTo(-0.97f);
    assertThat(logprobs.path("top_logprobs").path(3).path("H").floatValue()).isEqualTo(-0.72f);
    assertThat(server.engine.requests.remove().promptLogprobs()).isTrue();
  }

  @Test
  void echoesWithoutLogprobs() {
    JsonNode choice = text(",\"prompt\":[97,98],\"echo\":true").path("choices").path(0);

    assertThat(choice.path("text").asText()).isEqualTo("abHello, you!");
    assertThat(choice.path("logprobs").isNull()).isTrue();
  }

  @Test
  void listsNoTokensOfThePartThatAStopStringCut() {
    JsonNode choice =
        text(",\"prompt\":\"x\",\"logprobs\":0,\"stop\":\"o,\"").path("choices").path(0);

    assertThat(choice.path("text").asText()).isEqualTo("Hell");
    assertThat(choice.path("logprobs").path("tokens")).hasSize(4);
  }

  @Test
  void encodesLongPromptsOnAWorker() {
    server.engine.contextLength(20_000);
    String prompt = "a".repeat(3 * PromptEncoder.INLINE_CHARS);

    JsonNode answer = text(",\"prompt\":\"%s\"".formatted(prompt));

    assertThat(answer.path("usage").path("prompt_tokens").asInt()).isEqualTo(prompt.length() + 1);
  }

  @Test
  void failsWithAStatusBeforeTheFirstEventAndWithAnEventAfterIt() {
    String body = "{\"model\":\"base-model\",\"prompt\":\"x\",\"stream\":true}";
    server.engine.plays(
        Script.refuses(new InfiniLoraException(ErrorCode.OVERLOADED, "the queue is full")));
    HttpResponse<String> refused = server.post("/v1/completions", body);
    assertThat(refused.statusCode()).isEqualTo(429);
    assertThat(refused.headers().firstValue("retry-after")).isPresent();
    assertThat(ServerFixture.json(refused.body()).path("error").path("message").asText())
        .isEqualTo("the queue is full");

    server.engine.plays(Script.forever('a').failingAfter(2));
    HttpResponse<String> broken = server.post("/v1/completions", body);
    assertThat(broken.statusCode()).isEqualTo(200);
    String[] events = broken.body().split("\n\n");
    assertThat(events).hasSize(3);
    JsonNode error = ServerFixture.json(events[2].substring("data: ".length())).path("error");
    assertThat(error.path("type").asText()).isEqualTo("server_error");
    assertThat(server.state.active()).isZero();
  }

  @Test
  void servesTokenIdsWithoutATokenizer() {
    server.openWithoutText();

    JsonNode choice = text(",\"prompt\":[1,2]").path("choices").path(0);

    assertThat(choice.path("text").asText()).isEmpty();
    assertThat(choice.path("token_ids")).hasSize(11);
    assertThat(choice.path("token_ids").path(0).asInt()).isEqualTo('H');
    for (String refused : List.of("\"prompt\":\"x\"", "\"prompt\":[1],\"stop\":\"x\"")) {
      HttpResponse<String> response =
          server.post("/v1/completions", "{\"model\":\"base-model\",%s}".formatted(refused));
      assertThat(response.statusCode()).isEqualTo(400);
      assertThat(response.body()).contains("tokenizer");
    }
  }
}
