package io.infinilora.api;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.metrics.RequestMetrics;
import io.vertx.core.http.HttpClientAgent;
import io.vertx.core.http.HttpClientOptions;
import io.vertx.core.http.HttpClientRequest;
import io.vertx.core.http.HttpMethod;
import io.vertx.core.http.HttpVersion;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Bodies that wait for a word of the server, and bodies that never come. */
class RequestBodyHttpTest {
  private static final String BODY = "{\"model\":\"base-model\",\"prompt\":\"x\"}";
  private static final String PATH = "/v1/completions";
  private static final int LIMIT = 1000;

  private ServerFixture server;
  private Socket client;
  private BufferedReader answer;

  @AfterEach
  void close() throws IOException {
    client.close();
    server.close();
  }

  private void start(Duration patience) throws IOException {
    HttpOptions options = new HttpOptions("127.0.0.1", 0, LIMIT, patience);
    server = new ServerFixture(options, RequestMetrics.NONE, "").open();
    client = new Socket(InetAddress.getLoopbackAddress(), server.port());
    client.setSoTimeout(20_000);
    answer =
        new BufferedReader(new InputStreamReader(client.getInputStream(), StandardCharsets.UTF_8));
  }

  @BeforeEach
  void startPatiently() throws IOException {
    start(HttpOptions.DEFAULT_BODY_PATIENCE);
  }

  private void restartImpatiently() throws IOException {
    close();
    start(Duration.ofMillis(50));
  }

  private void send(String text) throws IOException {
    client.getOutputStream().write(text.getBytes(StandardCharsets.UTF_8));
  }

  private void sendHead(int length, String more) throws IOException {
    send(head(length, more));
  }

  private static String head(int length, String more) {
    return "POST /v1/completions HTTP/1.1\r\nHost: test\r\n%sContent-Length: %d\r\n\r\n"
        .formatted(more, length);
  }

  @Test
  void tellsClientsThatAskFirstToGoOn() throws IOException {
    sendHead(BODY.length(), "Expect: 100-continue\r\n");

    assertThat(answer.readLine()).isEqualTo("HTTP/1.1 100 Continue");
    assertThat(answer.readLine()).isEmpty();
    send(BODY);
    assertThat(answer.readLine()).isEqualTo("HTTP/1.1 200 OK");
  }

  @Test
  void refusesAtOnceWhatIsTooLongBeforeItIsSent() throws IOException {
    sendHead(LIMIT + 1, "Expect: 100-continue\r\n");

    assertThat(answer.readLine()).startsWith("HTTP/1.1 413 ");
  }

  @Test
  void givesUpBodiesThatStandStill() throws IOException {
    restartImpatiently();
    // At once: what is written to a connection that is closed already would reset it.
    send(head(BODY.length(), "") + BODY.substring(1));

    assertThat(answer.readLine()).startsWith("HTTP/1.1 408 ");
    assertThat(answer.lines()).last().asString().contains("did not come");
  }

  @Test
  void closesConnectionsWhoseRefusedBodiesStandStill() throws IOException {
    restartImpatiently();
    sendHead(LIMIT + 1, "");

    assertThat(answer.readLine()).startsWith("HTTP/1.1 413 ");
    assertThat(answer.lines()).last().asString().contains("more than");
  }

  @Test
  void leavesOtherRequestsOfAnHttp2ConnectionAlone() throws IOException {
    restartImpatiently();
    HttpClientOptions options =
        new HttpClientOptions()
            .setDefaultHost("127.0.0.1")
            .setDefaultPort(server.port())
            .setProtocolVersion(HttpVersion.HTTP_2)
            .setHttp2ClearTextUpgrade(false);
    HttpClientAgent http2 = server.vertx.createHttpClient(options);

    HttpClientRequest standing = ServerFixture.await(http2.request(HttpMethod.POST, PATH));
    standing.setChunked(true).write("{");
    assertThat(ServerFixture.await(standing.response()).statusCode()).isEqualTo(408);

    HttpClientRequest next = ServerFixture.await(http2.request(HttpMethod.POST, PATH));
    assertThat(next.connection()).isSameAs(standing.connection());
    assertThat(ServerFixture.await(next.send(BODY)).statusCode()).isEqualTo(200);
  }
}
