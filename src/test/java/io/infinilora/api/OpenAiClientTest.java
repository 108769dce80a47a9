package io.infinilora.api;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.fake.Script;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/**
 * The official {@code openai} client for Node.js, unchanged, against the server. It is installed
 * below {@code target/} from the lock file in {@code src/test/js}; skipped where there is no node.
 */
@Tag("node")
class OpenAiClientTest {
  private static final Path SOURCES = Path.of("src/test/js");
  private static final int OLDEST_NODE = 18;
  private static final Path WORK = Path.of("target/openai-client");

  @Test
  void theOfficialClientRunsUnchanged() throws Exception {
    assumeTrue(runs("node", "--version"), "node is not installed");
    assumeTrue(runs("npm", "--version"), "npm is not installed");
    Files.createDirectories(WORK);
    String node = run("node", "--version").text().strip();
    assertThat(Integer.parseInt(node.replaceFirst("^v(\\d+).*$", "$1")))
        .as("major version of Node.js %s, as the openai client needs it", node)
        .isGreaterThanOrEqualTo(OLDEST_NODE);
    for (String file : List.of("package.json", "package-lock.json", "openai-client.mjs")) {
      Files.copy(SOURCES.resolve(file), WORK.resolve(file), StandardCopyOption.REPLACE_EXISTING);
    }
    Output install = run("npm", "ci", "--prefer-offline", "--no-audit", "--no-fund");
    assertThat(install.status()).as(install.text()).isZero();

    try (ServerFixture server = new ServerFixture().open()) {
      server.engine.contextLength(2_000_000).scripts(request -> script(server, request.prompt()));

      Output client = run("node", "openai-client.mjs", "http://127.0.0.1:" + server.port());

      assertThat(client.status()).as(client.text()).isZero();
      assertThat(client.text().lines().filter(line -> line.startsWith("ok "))).hasSize(11);
      assertThat(server.engine.cancellations.tryAcquire(20, TimeUnit.SECONDS))
          .as("the abort cancels")
          .isTrue();
      assertThat(server.engine.active).hasValue(0);
    }
  }

  private static Script script(ServerFixture server, int[] prompt) {
    return switch (server.tokenizer.decode(prompt)) {
      case "overloaded" -> Script.refuses(new InfiniLoraException(ErrorCode.OVERLOADED, "busy"));
      case "breaks" -> Script.tokens(server.tokens("abcdef")).failingAfter(3);
      case "endless" -> Script.forever('a');
      default -> Script.tokens(server.tokens("Hello, you!"));
    };
  }

  private record Output(int status, String text) {}

  private static boolean runs(String... command) throws InterruptedException {
    try {
      Process process =
          new ProcessBuilder(command)
              .redirectErrorStream(true)
              .redirectOutput(ProcessBuilder.Redirect.DISCARD)
              .start();
      return process.waitFor() == 0;
    } catch (IOException e) {
      return false;
    }
  }

  private static Output run(String... command) throws IOException, InterruptedException {
    Path log = WORK.resolve(command[0] + ".log");
    Process process =
        new ProcessBuilder(command)
            .directory(WORK.toFile())
            .redirectErrorStream(true)
            .redirectOutput(log.toFile())
            .start();
    if (!process.waitFor(3, TimeUnit.MINUTES)) {
      process.destroyForcibly().waitFor();
      return new Output(
          -1, "timed out: " + String.join(" ", command) + "\n" + Files.readString(log));
    }
    return new Output(process.exitValue(), Files.readString(log));
  }
}
