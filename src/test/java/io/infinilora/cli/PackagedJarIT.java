package io.infinilora.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.infinilora.node.DemoModel;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** The jar as users get it: what is in it, and that it serves and stops. */
class PackagedJarIT {
  private static final Path JAR = Path.of(System.getProperty("infinilora.jar"));
  private static final Pattern URL = Pattern.compile("try: curl -N (http://[^/]+)/");

  private Process process;

  @AfterEach
  void stop() {
    if (process != null) {
      process.destroyForcibly();
    }
  }

  @Test
  void hasNoAnnotationsOfLgplLicence() throws IOException {
    try (JarFile jar = new JarFile(JAR.toFile())) {
      assertThat(jar.stream().map(JarEntry::getName))
          .contains("com/hubspot/jinjava/Jinjava.class")
          .noneMatch(name -> name.matches("(edu/umd/cs/findbugs|net/jcip|org/derive4j)/.*"));
    }
  }

  @Test
  void servesAChatAndDrainsWhenToldToStop() throws Exception {
    process =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-jar",
                JAR.toString(),
                "serve",
                "--model",
                DemoModel.path().toString(),
                "--adapters",
                "examples/adapters",
                "--port",
                "0",
                "--set",
                "server.drainTimeout=5m")
            .redirectErrorStream(true)
            .start();
    BufferedReader output = process.inputReader();
    String url = CompletableFuture.supplyAsync(() -> invitation(output)).get(5, TimeUnit.MINUTES);

    try (HttpClient client = HttpClient.newHttpClient()) {
      HttpResponse<String> whole =
          client.send(chat(url, false, 8), HttpResponse.BodyHandlers.ofString());
      assertThat(whole.statusCode()).as(whole.body()).isEqualTo(200);
      assertThat(
              new ObjectMapper().readTree(whole.body()).at("/choices/0/message/content").asText())
          .isNotBlank();

      HttpResponse<InputStream> stream =
          client.send(chat(url, true, 40), HttpResponse.BodyHandlers.ofInputStream());
      try (InputStream body = stream.body()) {
        body.readNBytes(6);
        process.toHandle().destroy(); // SIGTERM, in the middle of the answer.
        assertThat(new String(body.readAllBytes(), StandardCharsets.UTF_8))
            .endsWith("data: [DONE]\n\n");
      }
    }

    assertThat(process.waitFor(6, TimeUnit.MINUTES)).isTrue();
    assertThat(process.exitValue()).isZero();
    List<String> rest = output.lines().toList();
    assertThat(rest).contains("draining", "drained");
  }

  private static HttpRequest chat(String url, boolean stream, int tokens) {
    return HttpRequest.newBuilder(URI.create(url + "/v1/chat/completions"))
        .POST(
            HttpRequest.BodyPublishers.ofString(
                "{\"model\":\"pirate\",\"stream\":%s,\"max_tokens\":%d,\"temperature\":0,\"ignore_eos\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}"
                    .formatted(stream, tokens)))
        .build();
  }

  /** Reads up to the line that says what to try; returns the server's address from it. */
  private static String invitation(BufferedReader output) {
    StringBuilder read = new StringBuilder();
    try {
      for (String line = output.readLine(); line != null; line = output.readLine()) {
        Matcher matcher = URL.matcher(line);
        if (matcher.find()) {
          return matcher.group(1);
        }
        read.append(line).append('\n');
      }
    } catch (IOException e) {
      throw new IllegalStateException(read.toString(), e);
    }
    throw new IllegalStateException("the server ended: " + read);
  }
}
