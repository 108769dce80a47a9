package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.LoraMode;
import io.infinilora.node.ServedNode.Answer;
import io.vertx.core.Future;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The real engine over HTTP under more requests than it can run at once. */
class LoadHttpTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final int VOCAB = 320;
  private static final int BLOCK_BYTES = 2 * 2 * 2 * 24 * 16 * Float.BYTES;
  private static final int REQUESTS = 200;
  private static final int TOKENS = 12;

  private static ServedNode serve(LoraMode mode, int kvBlocks, int maxRunning, int maxWaiting) {
    return new ServedNode(
        new InfiniLoraConfig(
            Optional.of(MODEL),
            Optional.of(MODEL.resolve("adapters")),
            mode,
            ServerConfig.DEFAULTS,
            new EngineConfig(
                Optional.of(2),
                Optional.of(1),
                Optional.empty(),
                new ByteSize((long) kvBlocks * BLOCK_BYTES),
                maxRunning,
                maxWaiting,
                128,
                16,
                true,
                EngineConfig.DEFAULT_POLICY,
                Duration.ofSeconds(60))));
  }

  /** Twenty different requests, without an adapter and with each of three. */
  private static String model(int i) {
    return i % 4 == 0 ? ServedNode.BASE : "a" + (i % 4 - 1);
  }

  private static int[] prompt(int i) {
    return new Random(i % 20).ints(5 + i % 20, 3, VOCAB).toArray();
  }

  private static String body(int i, int tokens) {
    return ServedNode.body(model(i), prompt(i), tokens, i / 20 % 2 == 0);
  }

  /** What each of the twenty gets when nobody else asks. */
  private static List<List<Integer>> alone(ServedNode server, int tokens) {
    List<List<Integer>> answers = new ArrayList<>();
    for (int i = 0; i < 20; i++) {
      Answer answer = server.complete(body(i, tokens)).join();
      assertThat(answer.tokens()).hasSize(tokens);
      answers.add(answer.tokens());
    }
    assertThat(answers).doesNotHaveDuplicates();
    return answers;
  }

  private static List<CompletableFuture<Answer>> all(ServedNode server) {
    List<CompletableFuture<Answer>> answers = new ArrayList<>();
    for (int i = 0; i < REQUESTS; i++) {
      answers.add(server.complete(body(i, TOKENS)));
    }
    return answers;
  }

  private static void assertComplete(Answer answer, List<Integer> expected) {
    assertThat(answer.status()).as(answer.response().body()).isEqualTo(200);
    assertThat(answer.tokens()).isEqualTo(expected);
    assertThat(answer.finish()).isEqualTo("length");
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void everyRequestThatTheQueueHoldsGetsTheAnswerItGetsAlone(LoraMode mode) {
    // The blocks hold about half of what runs at once: sequences are preempted as well.
    try (ServedNode server = serve(mode, 16, 16, REQUESTS)) {
      List<List<Integer>> alone = alone(server, TOKENS);

      List<CompletableFuture<Answer>> together = all(server);

      for (int i = 0; i < REQUESTS; i++) {
        assertComplete(together.get(i).join(), alone.get(i % 20));
      }
    }
  }

  @Test
  void aFullQueueRefusesAndServesTheOthers() {
    int waiting = 32;
    try (ServedNode server = serve(LoraMode.DISAGGREGATED, 64, 8, waiting)) {
      List<List<Integer>> alone = alone(server, TOKENS);
      // The first request's first step does not end, so one runs, as many wait as may, and the
      // others are refused. Sent with the others it might share its step with some of them.
      server.gate.allow(0);
      List<CompletableFuture<Answer>> together = new ArrayList<>();
      together.add(server.complete(body(0, TOKENS)));
      server.until(() -> server.load().running() == 1);
      for (int i = 1; i < REQUESTS; i++) {
        together.add(server.complete(body(i, TOKENS)));
      }
      int refusals = REQUESTS - waiting - 1;
      server.until(() -> together.stream().filter(CompletableFuture::isDone).count() == refusals);

      assertThat(server.get("/ready").statusCode()).isEqualTo(200);
      assertThat(server.metric("infinilora_requests_running")).isEqualTo(1);
      assertThat(server.metric("infinilora_requests_waiting")).isEqualTo(waiting);
      assertThat(server.metric("infinilora_kv_blocks_used")).isPositive();
      server.gate.open();

      int served = 0;
      for (int i = 0; i < REQUESTS; i++) {
        Answer answer = together.get(i).join();
        if (answer.status() == 429) {
          assertRefused(answer);
        } else {
          assertComplete(answer, alone.get(i % 20));
          served++;
        }
      }
      assertThat(served).isEqualTo(waiting + 1);
    }
  }

  private static void assertRefused(Answer answer) {
    JsonNode error = ServedNode.json(answer.response().body()).required("error");
    assertThat(error.required("code").asText()).isEqualTo("overloaded");
    assertThat(error.required("message").asText()).contains("32 requests are waiting");
    assertThat(answer.response().headers().firstValueAsLong("retry-after").orElseThrow())
        .isBetween(1L, 60L);
  }

  @Test
  void drainingServesWhatIsThereAndRefusesTheRest() throws Exception {
    try (ServedNode server = serve(LoraMode.DISAGGREGATED, 64, 8, 32)) {
      List<List<Integer>> alone = alone(server, TOKENS);
      server.gate.allow(0);
      List<CompletableFuture<Answer>> running = new ArrayList<>();
      running.add(server.complete(body(0, TOKENS)));
      server.until(() -> server.load().running() == 1);
      for (int i = 1; i < 20; i++) {
        running.add(server.complete(body(i, TOKENS)));
      }
      server.until(() -> server.load().running() + server.load().waiting() == 20);

      Future<Boolean> drained = server.state.drain(server.vertx(), Duration.ofMinutes(2));

      assertThat(server.get("/ready").statusCode()).isEqualTo(503);
      assertThat(server.get("/health").statusCode()).isEqualTo(200);
      assertThat(server.metric("infinilora_requests_waiting")).isEqualTo(19);
      Answer late = server.complete(body(0, TOKENS)).join();
      assertThat(late.status()).isEqualTo(503);
      assertThat(late.response().body()).contains("shutting down");
      assertThat(late.response().headers().firstValue("retry-after")).isPresent();
      assertThat(drained.isComplete()).isFalse();
      server.gate.open();
      for (int i = 0; i < 20; i++) {
        assertComplete(running.get(i).join(), alone.get(i));
      }
      assertThat(drained.toCompletionStage().toCompletableFuture().get(60, TimeUnit.SECONDS))
          .isTrue();
    }
  }

  @Test
  void clientsThatVanishMidStreamHarmNobody() throws Exception {
    int leavers = 64;
    int survivors = 20;
    int steps = 60;
    int tokens = 180; // More than the steps below compute, within the context of 256.
    try (ServedNode server = serve(LoraMode.DISAGGREGATED, 2048, 96, 96)) {
      List<List<Integer>> alone = alone(server, tokens);
      server.gate.allow(0);
      List<Socket> vanishing = new ArrayList<>();
      List<CompletableFuture<Answer>> staying = new ArrayList<>();
      for (int i = 0; i < leavers; i++) {
        vanishing.add(open(server.port(), ServedNode.body(model(i), prompt(i), tokens, true)));
        if (i < survivors) {
          staying.add(server.complete(body(i, tokens)));
        }
      }
      server.until(() -> server.load().running() + server.load().waiting() == leavers + survivors);
      server.gate.allow(steps); // All run and have tokens after these, and none is at its end.
      for (Socket socket : vanishing) {
        assertThat(new String(socket.getInputStream().readNBytes(15), StandardCharsets.UTF_8))
            .isEqualTo("HTTP/1.1 200 OK");
      }
      server.until(() -> server.load().running() == leavers + survivors);

      server.gate.awaitHeld();
      // Half of them go while a step with their rows is held, the others while steps go on.
      vanish(vanishing.subList(0, leavers / 2));
      server.until(() -> server.state.active() == leavers / 2 + survivors);
      server.gate.allow(steps);
      vanish(vanishing.subList(leavers / 2, leavers));
      server.until(() -> server.state.active() == survivors);
      server.gate.open();

      for (int i = 0; i < survivors; i++) {
        assertComplete(staying.get(i).join(), alone.get(i));
      }
      server.until(() -> server.load().running() == 0);
      assertThat(cancelled(server)).isEqualTo(leavers);
    }
  }

  private static double cancelled(ServedNode server) {
    double sum = 0;
    for (String adapter : List.of("(base)", "a0", "a1", "a2")) {
      sum +=
          server.metric(
              "infinilora_requests_total{adapter=\"%s\",outcome=\"cancelled\"}".formatted(adapter));
    }
    return sum;
  }

  private static Socket open(int port, String body) throws IOException {
    Socket socket = new Socket();
    socket.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), port));
    String request =
        "POST /v1/completions HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s"
            .formatted(body.length(), body);
    socket.getOutputStream().write(request.getBytes(StandardCharsets.UTF_8));
    return socket;
  }

  /** Closes in turn with a reset and in good order, without reading what has come. */
  private static void vanish(List<Socket> sockets) throws IOException {
    for (int i = 0; i < sockets.size(); i++) {
      if (i % 2 == 0) {
        sockets.get(i).setSoLinger(true, 0);
      }
      sockets.get(i).close();
    }
  }
}
