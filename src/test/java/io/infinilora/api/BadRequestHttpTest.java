package io.infinilora.api;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.OverloadedException;
import io.infinilora.fake.Script;
import io.infinilora.metrics.RequestMetrics;
import java.io.ByteArrayInputStream;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What is wrong with a request is said with the right status, the field's name and no stack. */
class BadRequestHttpTest {
  private static final int BODY_LIMIT = 100_000;
  private static final String TEXT = "/v1/completions";
  private static final String CHAT = "/v1/chat/completions";

  private static ServerFixture server;

  @BeforeAll
  static void start() {
    server = new ServerFixture(BODY_LIMIT, RequestMetrics.NONE, "").open();
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  @AfterEach
  void nothingStaysOpen() {
    assertThat(server.state.active()).isZero();
    assertThat(server.engine.active).hasValue(0);
  }

  private static JsonNode error(HttpResponse<String> response, int status) {
    assertThat(response.statusCode()).as(response.body()).isEqualTo(status);
    JsonNode error = ServerFixture.json(response.body()).path("error");
    assertThat(error.has("message")).isTrue();
    assertThat(error.has("type")).isTrue();
    assertThat(error.has("param")).isTrue();
    assertThat(error.has("code")).isTrue();
    assertThat(error.path("message").asText())
        .doesNotContain("io.infinilora", "com.fasterxml", "StreamRead");
    return error;
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "{                                   | marker for Object (start marker at line: 1, column: 1) (line 1",
        "{\"seed\":999                        | marker for Object (start marker at line: 1, column: 1) (line 1",
        "``                                  | The body must be a JSON object, not empty",
        "[1]                                 | The body must be a JSON object, not an array",
        "\"x\"                               | The body must be a JSON object, not a string",
        "{\"model\":\"a\"} {}                | The body is not valid JSON",
        "{\"model\":\"a\",\"model\":\"b\"}   | Duplicate field 'model'",
        "{\"model\":NaN}                     | The body is not valid JSON: Non-standard token 'NaN' (line 1",
      })
  void refusesBodiesThatAreNotOneJsonObject(String body, String message) {
    JsonNode error = error(server.post(TEXT, body), 400);

    assertThat(error.path("message").asText()).contains(message);
    assertThat(error.path("type").asText()).isEqualTo("invalid_request_error");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "\"temperature\":\"1\"         | temperature must be a number, not a string",
        "\"temperature\":3             | temperature must be between 0 and 2, not 3",
        "\"temperature\":1e999         | temperature must be between 0 and 2, not",
        "\"temperature\":-0.1          | temperature must be between 0 and 2",
        "\"top_p\":0                   | top_p must be greater than 0",
        "\"top_p\":[1]                 | top_p must be a number, not an array",
        "\"top_k\":1.5                 | top_k must be an integer, not a fraction",
        "\"min_p\":2                   | min_p must be between 0 and 1",
        "\"n\":0                       | n must be between 1 and 128, not 0",
        "\"n\":129                     | n must be between 1 and 128, not 129",
        "\"n\":true                    | n must be an integer, not a boolean",
        "\"max_tokens\":0              | max_tokens must be at least 1, not 0",
        "\"max_tokens\":-5             | max_tokens must be at least 1, not -5",
        "\"max_tokens\":99999999999    | max_tokens must be at most 2147483647, not 99999999999",
        "\"top_k\":2147483648          | top_k must be at most 2147483647, not 2147483648",
        "\"max_tokens\":\"9\"          | max_tokens must be an integer, not a string",
        "\"seed\":18446744073709551616 | seed must fit into 64 bits",
        "\"seed\":1.5                  | seed must be an integer, not a fraction",
        "\"stop\":5                    | stop must be a string or an array of strings, not an integer",
        "\"stop\":[\"a\",5]            | stop[1] must be a string, not an integer",
        "\"stop\":[\"\"]               | stop[0] must not be empty",
        "\"stream\":\"yes\"            | stream must be a boolean, not a string",
        "\"stream_options\":{}         | stream_options needs stream to be true",
        "\"logit_bias\":[]             | logit_bias must be an object, not an array",
        "\"logit_bias\":{\"a\":1}      | logit_bias[a] must have a token id as its key",
        "\"logit_bias\":{\"512\":1}    | logit_bias[512] must be a token id of the vocabulary",
        "\"logit_bias\":{\"5\":101}    | logit_bias[5] must be between -100 and 100",
        "\"logit_bias\":{\"5\":\"x\"}  | logit_bias[5] must be a number, not a string",
        "\"presence_penalty\":2.5      | presence_penalty must be between -2 and 2",
        "\"frequency_penalty\":{}      | frequency_penalty must be a number, not an object",
        "\"repetition_penalty\":0      | repetition_penalty must be between 0.01 and 10, not 0",
        "\"repetition_penalty\":1e-300 | repetition_penalty must be between 0.01 and 10, not 1.0E-300",
        "\"stop_token_ids\":[600]      | stop_token_ids[0] must be a token id of the vocabulary",
        "\"ignore_eos\":1              | ignore_eos must be a boolean, not an integer",
        "\"best_of\":2                 | best_of other than n is not supported",
      })
  void namesTheFieldAtFault(String field, String message) {
    JsonNode text =
        error(
            server.post(TEXT, "{\"model\":\"base-model\",\"prompt\":\"x\",%s}".formatted(field)),
            400);
    assertThat(text.path("message").asText()).startsWith(message);
    assertThat(message).startsWith(text.path("param").asText());
    assertThat(text.path("param").asText()).isNotEmpty();

    JsonNode chat =
        error(
            server.post(
                CHAT,
                "{\"model\":\"base-model\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],%s}"
                    .formatted(field)),
            400);
    assertThat(chat.path("message").asText()).startsWith(message);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "{\"prompt\":\"x\"}                                     | model is required",
        "{\"model\":7,\"prompt\":\"x\"}                         | model must be a string, not an integer",
        "{\"model\":\"base-model\"}                             | prompt is required",
        "{\"model\":\"base-model\",\"prompt\":null}             | prompt is required",
        "{\"model\":\"base-model\",\"prompt\":{}}               | prompt must be a string or an array, not an object",
        "{\"model\":\"base-model\",\"prompt\":[]}               | prompt must not be an empty array",
        "{\"model\":\"base-model\",\"prompt\":[[]]}             | prompt[0] must be a string or a non-empty array of token ids",
        "{\"model\":\"base-model\",\"prompt\":[\"a\",1]}        | prompt[1] must be a string, not an integer",
        "{\"model\":\"base-model\",\"prompt\":[1,\"a\"]}        | prompt[1] must be a token id, not a string",
        "{\"model\":\"base-model\",\"prompt\":[1,-1]}           | prompt[1] must be a token id of the vocabulary, from 0 to 511",
        "{\"model\":\"base-model\",\"prompt\":[99999999999]}    | prompt[0] must be a token id of the vocabulary",
        "{\"model\":\"base-model\",\"prompt\":[[1],[true]]}     | prompt[1][0] must be a token id, not a boolean",
        "{\"model\":\"base-model\",\"prompt\":\"x\",\"logprobs\":21}   | logprobs must be between 0 and 20, not 21",
        "{\"model\":\"base-model\",\"prompt\":\"x\",\"logprobs\":true} | logprobs must be an integer, not a boolean",
        "{\"model\":\"base-model\",\"prompt\":\"x\",\"suffix\":\"y\"}  | suffix is not supported",
      })
  void refusesBadCompletions(String body, String message) {
    assertThat(error(server.post(TEXT, body), 400).path("message").asText()).startsWith(message);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "null                                                | messages is required",
        "{}                                                  | messages must be an array, not an object",
        "[]                                                  | messages must have at least one message",
        "[\"hi\"]                                            | messages[0] must be an object, not a string",
        "[{\"content\":\"x\"}]                               | messages[0].role is required",
        "[{\"role\":\"robot\",\"content\":\"x\"}]            | messages[0].role must be system, developer, user or assistant",
        "[{\"role\":\"tool\",\"content\":\"x\"}]             | messages[0].role 'tool' is not supported",
        "[{\"role\":\"user\"}]                               | messages[0].content is required",
        "[{\"role\":\"user\",\"content\":5}]                 | messages[0].content must be a string or an array of text parts",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}] | messages[0].content[0].type 'image_url' is not supported",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]      | messages[0].content[0].text is required",
        "[{\"role\":\"user\",\"content\":\"x\",\"tool_calls\":[]}]    | messages[0].tool_calls is not supported",
      })
  void refusesBadMessages(String messages, String message) {
    String body = "{\"model\":\"base-model\",\"messages\":%s}".formatted(messages);

    assertThat(error(server.post(CHAT, body), 400).path("message").asText()).startsWith(message);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "tools                 | [{\"type\":\"function\"}]",
        "tool_choice           | \"auto\"",
        "functions             | [{}]",
        "response_format       | {\"type\":\"json_object\"}",
        "modalities            | [\"text\",\"audio\"]",
        "audio                 | {\"voice\":\"x\"}",
        "reasoning_effort      | \"low\"",
        "guided_json           | {\"a\":1}",
        "top_logprobs          | 3",
        "skip_special_tokens   | false",
      })
  void refusesByNameWhatWouldChangeTheOutput(String field, String value) {
    String body =
        "{\"model\":\"base-model\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"%s\":%s}"
            .formatted(field, value);

    JsonNode error = error(server.post(CHAT, body), 400);

    assertThat(error.path("message").asText()).startsWith(field);
    assertThat(error.path("param").asText()).isEqualTo(field);
  }

  @Test
  void ignoresWhatDoesNotChangeTheOutput() {
    String body =
        """
        {"model":"base-model","messages":[{"role":"user","content":"x"}],"user":"u","store":true,
         "metadata":{"a":"b"},"tools":[],"tool_choice":"none","response_format":{"type":"text"},
         "modalities":["text"],"service_tier":"auto","parallel_tool_calls":true,"logprobs":false,
         "temperature":null,"never_heard_of":[1]}""";

    assertThat(server.post(CHAT, body).statusCode()).isEqualTo(200);
  }

  @Test
  void refusesDeepNestingAndEndlessNumbers() {
    String deep = "{\"model\":" + "[".repeat(50_000) + "]".repeat(49_000) + "}";
    assertThat(error(server.post(TEXT, deep), 400).path("message").asText()).contains("depth");

    String digits = "{\"model\":\"base-model\",\"seed\":" + "9".repeat(50_000) + "}";
    assertThat(error(server.post(TEXT, digits), 400).path("message").asText()).contains("length");
  }

  @ParameterizedTest
  @CsvSource({
    "messages,[]",
    "bos_token,\"x\"",
    "eos_token,\"x\"",
    "add_generation_prompt,false",
  })
  void refusesTemplateArgumentsThatTheServerSets(String name, String value) {
    String body =
        """
        {"model":"base-model","messages":[{"role":"user","content":"x"}],
         "chat_template_kwargs":{"%s":%s}}"""
            .formatted(name, value);

    JsonNode error = error(server.post(CHAT, body), 400);

    assertThat(error.path("param").asText()).isEqualTo("chat_template_kwargs." + name);
  }

  @Test
  void takesTemplateArguments() {
    String body =
        """
        {"model":"base-model","messages":[{"role":"user","content":"x"}],
         "chat_template_kwargs":{"add_generation_prompt":true,"enable_thinking":false}}""";

    assertThat(server.post(CHAT, body).statusCode()).isEqualTo(200);
  }

  @Test
  void refusesUnknownModelsWith404() {
    JsonNode error = error(server.post(TEXT, "{\"model\":\"nope\",\"prompt\":\"x\"}"), 404);

    assertThat(error.path("message").asText()).isEqualTo("The model 'nope' does not exist");
    assertThat(error.path("code").asText()).isEqualTo("model_not_found");
    assertThat(error.path("param").asText()).isEqualTo("model");
  }

  @Test
  void refusesPromptsBeyondTheContext() {
    String body = "{\"model\":\"base-model\",\"prompt\":\"%s\",\"max_tokens\":%d}";

    JsonNode prompt = error(server.post(TEXT, body.formatted("x".repeat(300), 1)), 400);
    assertThat(prompt.path("code").asText()).isEqualTo("context_length_exceeded");
    assertThat(prompt.path("message").asText())
        .isEqualTo(
            "The context has 256 tokens, but the prompt has 301 and the output needs up to 1");
    JsonNode both = error(server.post(TEXT, body.formatted("x".repeat(200), 100)), 400);
    assertThat(both.path("code").asText()).isEqualTo("context_length_exceeded");
  }

  @Test
  void refusesBodiesOverTheLimitWhetherDeclaredOrChunked() {
    String big = "{\"model\":\"" + "x".repeat(BODY_LIMIT) + "\"}";
    error(server.post(TEXT, big), 413);

    HttpResponse<String> chunked =
        server.send(
            HttpRequest.newBuilder(server.uri(TEXT))
                .POST(
                    BodyPublishers.ofInputStream(
                        () -> new ByteArrayInputStream(big.getBytes(StandardCharsets.UTF_8))))
                .build());
    error(chunked, 413);
  }

  @Test
  void refusesTooManyPrompts() {
    String prompts = "[" + "\"x\",".repeat(64) + "\"x\"]";

    JsonNode error =
        error(
            server.post(
                TEXT, "{\"model\":\"base-model\",\"n\":2,\"prompt\":%s}".formatted(prompts)),
            400);

    assertThat(error.path("message").asText()).startsWith("prompt has 65 items");
  }

  @Test
  void refusesUnknownPathsAndMethods() {
    error(server.get("/v1/nothing"), 404);
    error(server.get(TEXT), 405);
  }

  @ParameterizedTest
  @CsvSource({
    "INVALID_REQUEST,400",
    "CONTEXT_LENGTH_EXCEEDED,400",
    "BAD_ADAPTER,400",
    "MODEL_NOT_FOUND,404",
    "OVERLOADED,429",
    "UNAVAILABLE,503",
    "DEADLINE_EXCEEDED,500",
    "BAD_MODEL_FILE,500",
    "BAD_CONFIG,500",
    "INTERNAL,500"
  })
  void mapsEveryErrorCodeOfTheEngine(ErrorCode code, int status) {
    server.engine.plays(Script.refuses(new InfiniLoraException(code, "because")));
    try {
      HttpResponse<String> response =
          server.post(TEXT, "{\"model\":\"base-model\",\"prompt\":\"x\"}");
      error(response, status);
      assertThat(response.headers().firstValue("retry-after").isPresent())
          .isEqualTo(status == 429 || status == 503);
    } finally {
      server.engine.plays(Script.tokens(1));
    }
  }

  @ParameterizedTest
  @CsvSource({"7000,7", "7001,8", "12,1"})
  void passesOnWhenAFullQueueIsLikelyToHaveRoom(long millis, String seconds) {
    server.engine.plays(Script.refuses(new OverloadedException("full", Duration.ofMillis(millis))));
    try {
      HttpResponse<String> response =
          server.post(TEXT, "{\"model\":\"base-model\",\"prompt\":\"x\",\"stream\":true}");
      assertThat(error(response, 429).path("code").asText()).isEqualTo("overloaded");
      assertThat(response.headers().firstValue("retry-after")).contains(seconds);
    } finally {
      server.engine.plays(Script.tokens(1));
    }
  }
}
