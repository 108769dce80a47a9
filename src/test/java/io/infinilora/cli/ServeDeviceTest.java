package io.infinilora.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A GPU that is asked for and cannot be used, as on any machine. */
class ServeDeviceTest {
  private static final String MODEL = "src/test/resources/fixtures/llama";

  @ParameterizedTest
  @ValueSource(strings = {"serve", "verify"})
  void saysWhyAndEnds(String command) {
    StringWriter said = new StringWriter();
    PrintWriter writer = new PrintWriter(said);
    List<String> arguments =
        new ArrayList<>(List.of(command, "--backend", "cuda", "--device", "1000"));
    arguments.addAll(
        command.equals("serve") ? List.of("--port", "0", "--model", MODEL) : List.of(MODEL));
    int code =
        Main.commandLine().setOut(writer).setErr(writer).execute(arguments.toArray(String[]::new));
    assertThat(code).isEqualTo(1);
    assertThat(said.toString())
        .contains("device.kind is cuda, but ")
        .contains("; device.kind auto would compute on the CPU instead");
  }
}
