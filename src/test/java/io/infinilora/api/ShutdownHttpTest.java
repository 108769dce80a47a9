package io.infinilora.api;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.metrics.RequestMetrics;
import io.vertx.core.Future;
import java.io.DataInputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import org.junit.jupiter.api.Test;

class ShutdownHttpTest {
  /** More than the sockets' buffers hold, so that most of the answer waits in the server. */
  private static final int PROMPT = 12 << 20;

  @Test
  @SuppressWarnings("deprecation") // Lines of the head are ASCII.
  void anAnswerThatIsNotSentYetIsSentBeforeTheServerCloses() throws IOException {
    HttpOptions options = new HttpOptions("127.0.0.1", 0, 2 * PROMPT);
    try (ServerFixture server = new ServerFixture(options, RequestMetrics.NONE, "").open();
        Socket client = new Socket()) {
      server.engine.contextLength(2 * PROMPT);
      client.setReceiveBufferSize(1 << 12);
      client.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), server.port()));
      send(client, "{\"model\":\"base-model\",\"echo\":true,\"prompt\":\"%s\"}");
      DataInputStream in = new DataInputStream(client.getInputStream());
      assertThat(in.readLine()).isEqualTo("HTTP/1.1 200 OK");
      assertThat(server.state.active()).isZero();

      Future<Void> closed = server.undeploy();
      int length = -1;
      for (String line = in.readLine(); !line.isEmpty(); line = in.readLine()) {
        if (line.toLowerCase(Locale.ROOT).startsWith("content-length: ")) {
          length = Integer.parseInt(line.substring("content-length: ".length()));
        }
      }
      assertThat(length).isGreaterThan(PROMPT);
      assertThat(in.readNBytes(length)).hasSize(length).endsWith('}');
      ServerFixture.await(closed);
    }
  }

  private static void send(Socket client, String body) throws IOException {
    byte[] bytes = body.formatted("x".repeat(PROMPT)).getBytes(StandardCharsets.UTF_8);
    String head =
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            .formatted(bytes.length);
    client.getOutputStream().write(head.getBytes(StandardCharsets.UTF_8));
    client.getOutputStream().write(bytes);
  }
}
