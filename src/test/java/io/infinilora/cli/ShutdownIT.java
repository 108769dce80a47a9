package io.infinilora.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What becomes of requests that outlast {@code server.drainTimeout}. */
class ShutdownIT {
  private static final String BODY =
      "{\"model\":\"llama\",\"prompt\":[5,6,7],\"n\":128,\"max_tokens\":200,\"logprobs\":20,"
          + "\"ignore_eos\":true,\"stream\":true,\"return_token_ids\":true}";

  /** More than the sockets' buffers hold, so that most of the 20 MB waits in the server. */
  private static final int BEGINNING = 1 << 16;

  private JarProcess server;
  private Socket client;

  @BeforeEach
  void start() throws IOException {
    server =
        JarProcess.start(
                "server",
                List.of(
                    "serve",
                    "--model",
                    "src/test/resources/fixtures/llama",
                    "--port",
                    "0",
                    "--set",
                    "server.warmUp=0s",
                    "--set",
                    "server.drainTimeout=100ms"))
            .awaitReady();
    client = new Socket();
    client.setReceiveBufferSize(1 << 12);
    client.setSoTimeout(60_000);
    int port = URI.create(server.url()).getPort();
    client.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), port));
    String head =
        "POST /v1/completions HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"
            .formatted(BODY.length());
    client.getOutputStream().write((head + BODY).getBytes(StandardCharsets.UTF_8));
  }

  @AfterEach
  void stop() throws IOException {
    client.close();
    server.close();
  }

  @Test
  void aClientThatReadsIsToldThatTheServerEnds() throws IOException {
    InputStream answer = client.getInputStream();
    answer.readNBytes(BEGINNING);
    server.terminate();
    server.awaitOutput("gave up on requests that still ran after 0.1 s");

    String rest = new String(answer.readAllBytes(), StandardCharsets.UTF_8);
    assertThat(rest.substring(rest.lastIndexOf("data: "))).contains("\"code\":\"unavailable\"");
    assertThat(rest).endsWith("\r\n0\r\n\r\n");
    assertThat(server.exit()).isZero();
  }

  @Test
  void aClientThatDoesNotReadHoldsTheServerUpForSecondsOnly() throws IOException {
    client.getInputStream().readNBytes(BEGINNING);
    server.terminate();

    assertThat(server.exit()).isZero();
    assertThat(server.output())
        .contains("gave up on requests")
        .doesNotContain("stopped uncleanly", "Unhandled exception");
  }
}
