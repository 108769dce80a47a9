package io.infinilora.cli;

import io.infinilora.backend.cuda.Poison;
import java.io.IOException;
import java.io.PrintWriter;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.Iterator;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * A process that serves over HTTP, loses its GPU, and asks itself what it says. Exit code 0 if all
 * is as it should be.
 *
 * <p>Usage: {@code LostServer MODEL_DIRECTORY}.
 */
final class LostServer {
  private static final Duration PATIENCE = Duration.ofSeconds(60);
  private static final String REASON =
      "the GPU cannot be used by this process any more: restart it";
  private static final HttpClient CLIENT = HttpClient.newHttpClient();

  private final String url;
  private boolean good = true;

  private LostServer(String url) {
    this.url = url;
  }

  /** Runs it. */
  public static void main(String[] args) throws IOException, InterruptedException {
    int port;
    try (ServerSocket free = new ServerSocket(0)) {
      port = free.getLocalPort();
    }
    CountDownLatch ready = new CountDownLatch(1);
    Thread.ofPlatform().daemon().start(() -> serve(args[0], port, ready));
    boolean good = false;
    try {
      LostServer server = new LostServer("http://127.0.0.1:" + port);
      server.lose(ready);
      good = server.good;
    } finally {
      System.exit(good ? 0 : 1);
    }
  }

  private static void serve(String model, int port, CountDownLatch ready) {
    PrintWriter out =
        new PrintWriter(System.out, true) {
          @Override
          public void println(String line) {
            super.println(line);
            if (line.startsWith("ready after ")) {
              ready.countDown();
            }
          }
        };
    Main.commandLine()
        .setOut(out)
        .execute(
            "serve",
            "--backend=cuda",
            "--lora=coupled",
            "--port=" + port,
            "--model=" + model,
            "--adapters=" + model + "/adapters",
            "--kv-memory=8MiB",
            "--set=device.memory=4GiB");
  }

  private void lose(CountDownLatch ready) throws IOException, InterruptedException {
    expect("it says that it is ready", ready.await(PATIENCE.toSeconds(), TimeUnit.SECONDS));
    expect("it is ready", status("/ready") == 200);
    Runnable poison = Poison.TRAP.load();
    HttpResponse<Stream<String>> stream =
        CLIENT.send(completion(true), HttpResponse.BodyHandlers.ofLines());
    Iterator<String> lines = stream.body().iterator();
    expect("it answers: " + lines.next(), stream.statusCode() == 200);
    poison.run();
    String last = "";
    while (lines.hasNext()) {
      String line = lines.next();
      last = line.isBlank() || line.contains("[DONE]") ? last : line;
    }
    expect("the stream ends with " + last, last.contains(REASON));
    expect("/ready answers " + status("/ready"), status("/ready") == 503);
    expect("/health answers " + status("/health"), status("/health") == 200);
    HttpResponse<String> refused =
        CLIENT.send(completion(false), HttpResponse.BodyHandlers.ofString());
    expect(
        "a request is answered by %d %s".formatted(refused.statusCode(), refused.body()),
        refused.statusCode() == 503 && refused.body().contains(REASON));
  }

  private int status(String path) throws IOException, InterruptedException {
    return CLIENT
        .send(
            HttpRequest.newBuilder(URI.create(url + path)).build(),
            HttpResponse.BodyHandlers.discarding())
        .statusCode();
  }

  private HttpRequest completion(boolean stream) {
    String body =
        """
        {"model": "a0", "prompt": [1, 2, 3], "max_tokens": 200, "ignore_eos": true, "stream": %s}
        """
            .formatted(stream);
    return HttpRequest.newBuilder(URI.create(url + "/v1/completions"))
        .header("Content-Type", "application/json")
        .POST(HttpRequest.BodyPublishers.ofString(body))
        .build();
  }

  private void expect(String what, boolean holds) {
    System.out.println((holds ? "ok    " : "WRONG ") + what);
    good &= holds;
  }
}
