package io.infinilora.cli;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.fake.FakeHub;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PullCommandTest {
  @TempDir private Path cache;
  private final FakeHub server = new FakeHub("acme/tiny");
  private final StringWriter out = new StringWriter();
  private final StringWriter err = new StringWriter();

  @AfterEach
  void stop() {
    server.close();
  }

  @Test
  void standardOutputCarriesThePathAlone() {
    server.large("tiny.gguf", "content".getBytes(StandardCharsets.UTF_8));

    assertThat(run("acme/tiny")).isZero();

    Path file =
        cache.resolve("models--acme--tiny/snapshots").resolve(FakeHub.COMMIT).resolve("tiny.gguf");
    assertThat(out).hasToString(file + "\n");
    assertThat(file).hasContent("content");
    assertThat(err.toString()).contains("hf:acme/tiny: commit 0123456789ab, 1 file");
  }

  @Test
  void thePrefixMayBeGiven() {
    server.large("a.gguf", new byte[1]).large("b.gguf", new byte[2]);

    assertThat(run("hf:acme/tiny", "--include", "a*")).isZero();
    assertThat(run("hf:acme/tiny:b.gguf")).isZero();
    assertThat(run("hf:acme/tiny:b.gguf", "--offline")).isZero();
  }

  @Test
  void failuresAreNamedWithExitCodeOne() {
    assertThat(run("acme/tiny", "--offline")).isEqualTo(1);
    assertThat(err.toString()).contains("error: hf:acme/tiny: not in the cache " + cache);
    assertThat(run("../tiny")).isEqualTo(1);
    assertThat(err.toString()).contains("error: \"../tiny\" is no repository");
    assertThat(out.toString()).isEmpty();
  }

  @Test
  void helpHasExamples() {
    assertThat(Main.commandLine().setOut(new PrintWriter(out)).execute("pull", "--help")).isZero();
    assertThat(out.toString()).contains("Examples:", "--include", "HF_TOKEN");
  }

  private int run(String repository, String... options) {
    String[] common = {
      "pull", repository, "--endpoint", server.endpoint().toString(), "--cache", cache.toString()
    };
    String[] args = new String[common.length + options.length];
    System.arraycopy(common, 0, args, 0, common.length);
    System.arraycopy(options, 0, args, common.length, options.length);
    return Main.commandLine()
        .setOut(new PrintWriter(out))
        .setErr(new PrintWriter(err))
        .execute(args);
  }
}
