package io.infinilora.api;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.fake.Script;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Clients that vanish and clients that do not read. */
class DisconnectHttpTest {
  private static final int ENDLESS = 1_000_000;

  private final ServerFixture server = new ServerFixture().open();

  @AfterEach
  void close() {
    server.close();
  }

  private Socket request(boolean stream, int n) throws IOException {
    Socket socket = new Socket();
    socket.setReceiveBufferSize(16_384);
    socket.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), server.port()));
    String body =
        "{\"model\":\"base-model\",\"prompt\":\"x\",\"max_tokens\":%d,\"stream\":%s,\"n\":%d}"
            .formatted(ENDLESS / 2, stream, n);
    String request =
        "POST /v1/completions HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s"
            .formatted(body.length(), body);
    socket.getOutputStream().write(request.getBytes(StandardCharsets.UTF_8));
    return socket;
  }

  @Test
  void cancelsEveryGenerationOfClientsThatVanishMidStream() throws Exception {
    server.engine.contextLength(ENDLESS).plays(Script.forever('a'));
    List<Socket> clients = new ArrayList<>();
    for (int i = 0; i < 64; i++) {
      clients.add(request(true, 1));
    }
    for (Socket client : clients) {
      InputStream in = client.getInputStream();
      assertThat(new String(in.readNBytes(15), StandardCharsets.UTF_8))
          .isEqualTo("HTTP/1.1 200 OK");
    }

    for (int i = 0; i < clients.size(); i++) {
      if (i % 2 == 0) {
        clients.get(i).setSoLinger(true, 0); // half of them with a reset
      }
      clients.get(i).close();
    }

    assertThat(server.engine.cancellations.tryAcquire(64, 20, TimeUnit.SECONDS)).isTrue();
    assertThat(server.engine.active).hasValue(0);
    assertThat(
            server
                .state
                .drain(server.vertx, Duration.ofSeconds(20))
                .toCompletionStage()
                .toCompletableFuture()
                .get())
        .as("no request counts as active")
        .isTrue();
  }

  @Test
  void cancelsAllChoicesOfARequest() throws Exception {
    server.engine.contextLength(ENDLESS).plays(Script.forever('a'));
    try (Socket client = request(true, 5)) {
      client.getInputStream().readNBytes(15);
    }

    assertThat(server.engine.cancellations.tryAcquire(5, 20, TimeUnit.SECONDS)).isTrue();
  }

  @Test
  void cancelsWhenTheClientOfAWholeAnswerVanishes() throws Exception {
    server
        .engine
        .contextLength(ENDLESS)
        .plays(Script.forever('a').pausingAfter(100, new CompletableFuture<>()));
    try (Socket client = request(false, 1)) {
      assertThat(client.isConnected()).isTrue();
      server.engine.paused.acquire();
    }

    assertThat(server.engine.cancellations.tryAcquire(1, 20, TimeUnit.SECONDS)).isTrue();
    assertThat(server.engine.emitted).hasValue(100);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 4})
  void asksForNoMoreThanASlowClientReads(int choices) throws Exception {
    server.engine.contextLength(ENDLESS).plays(Script.forever('a'));
    try (Socket client = request(true, choices)) {
      InputStream in = client.getInputStream();
      in.readNBytes(15);

      // Nothing is read. Every buffer on the way fills up, then the engine is asked no more.
      long settled = settledEmissions();
      assertThat(settled).isLessThan(200_000);

      in.readNBytes(8_000_000);
      assertThat(server.engine.emitted.get()).isGreaterThan(settled);
    }
    assertThat(server.engine.cancellations.tryAcquire(choices, 20, TimeUnit.SECONDS)).isTrue();
  }

  /**
   * Emitted tokens once the event loop, which serves all connections, has answered other requests
   * without emitting more for this one.
   */
  private long settledEmissions() {
    long emitted = server.engine.emitted.get();
    int quiet = 0;
    while (quiet < 20 && emitted < ENDLESS / 2) {
      server.get("/health");
      long now = server.engine.emitted.get();
      quiet = now == emitted ? quiet + 1 : 0;
      emitted = now;
    }
    return emitted;
  }
}
