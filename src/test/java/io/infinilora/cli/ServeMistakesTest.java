package io.infinilora.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What is wrong with a command line is said in one line that names it, and no stack trace. */
class ServeMistakesTest {
  private static final String MODEL = "src/test/resources/fixtures/llama";

  private static void assertRefused(String message, String... arguments) {
    StringWriter said = new StringWriter();
    PrintWriter writer = new PrintWriter(said);
    List<String> all = new ArrayList<>(List.of("serve"));
    all.addAll(List.of(arguments));

    int code = Main.commandLine().setOut(writer).setErr(writer).execute(all.toArray(String[]::new));

    assertThat(code).as(said.toString()).isEqualTo(1);
    assertThat(said.toString().lines()).last().asString().startsWith("error: " + message);
    assertThat(said.toString()).doesNotContain("\tat ", "java.");
  }

  @Test
  void aPortInUse() throws IOException {
    try (ServerSocket other = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      String port = Integer.toString(other.getLocalPort());
      assertRefused(
          "cannot listen on 127.0.0.1:%s (server.host, server.port): ".formatted(port),
          "--model",
          MODEL,
          "--port",
          port);
    }
  }

  @Test
  void anAddressOfAnotherMachine() {
    assertRefused(
        "cannot listen on 192.0.2.1:0 (server.host, server.port): ",
        "--model",
        MODEL,
        "--host",
        "192.0.2.1",
        "--port",
        "0");
  }

  @Test
  void twoModels() {
    assertRefused(
        "--model and --random-weights exclude each other",
        "--model",
        MODEL,
        "--random-weights",
        MODEL + "/config.json");
  }

  @Test
  void anAdapterInsteadOfADirectoryOfAdapters() {
    String adapter = MODEL + "/adapters/a1";
    assertRefused(
        "adapters: %s is an adapter itself; name the directory that it lies in".formatted(adapter),
        "--model",
        MODEL,
        "--port",
        "0",
        "--adapters",
        adapter);
  }

  @Test
  void adaptersThatAreNotThere() {
    assertRefused(
        "adapters: cannot list no/where: there is no such file or directory",
        "--model",
        MODEL,
        "--port",
        "0",
        "--adapters",
        "no/where");
  }

  @Test
  void settingsThatCannotBeRead(@TempDir Path folder) throws IOException {
    assertRefused("cannot read no.yaml: there is no such file", "--config", "no.yaml");
    Path binary = Files.write(folder.resolve("binary.yaml"), new byte[] {(byte) 0xff, 0});
    assertRefused(
        "cannot read %s: it is not UTF-8 text".formatted(binary), "--config", binary.toString());
  }

  @Test
  void aValueForAGroupOfSettings(@TempDir Path folder) throws IOException {
    Path file = Files.writeString(folder.resolve("group.yaml"), "server: 5\n");
    assertRefused(
        "%s:1: server is a group of settings, such as server.host, and has no value"
            .formatted(file),
        "--config",
        file.toString());
  }
}
