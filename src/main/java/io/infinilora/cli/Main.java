package io.infinilora.cli;

import io.infinilora.config.HostPort;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.ScopeType;

/** Entry point of the executable jar. */
@Command(
    name = "infinilora",
    description = "Serves one language model with many LoRA adapters.",
    mixinStandardHelpOptions = true,
    scope = ScopeType.INHERIT,
    versionProvider = Main.Version.class,
    synopsisSubcommandLabel = "COMMAND",
    subcommands = {
      ServeCommand.class,
      PullCommand.class,
      InspectCommand.class,
      VerifyCommand.class,
      UpcycleCommand.class
    })
public final class Main {
  private Main() {}

  /** Runs the command line; relaunches the JVM once if it lacks the Vector API. */
  public static void main(String[] args) {
    VectorModule.relaunchIfMissing(args);
    System.exit(run(args));
  }

  /** Parses and executes; returns the exit code: 0 success, 1 failure, 2 wrong usage. */
  static int run(String... args) {
    return commandLine().execute(args);
  }

  /** The parser of the command line, which prints errors and gives the exit code. */
  static CommandLine commandLine() {
    return new CommandLine(new Main())
        .setCaseInsensitiveEnumValuesAllowed(true)
        .registerConverter(LoraGrid.class, LoraGrid::parse)
        .registerConverter(HostPort.class, HostPort::parse)
        .setExecutionExceptionHandler(
            (e, command, parsed) -> {
              if (e instanceof InfiniLoraException known) {
                command
                    .getErr()
                    .println(command.getColorScheme().errorText("error: " + known.getMessage()));
              } else {
                e.printStackTrace(command.getErr());
              }
              return 1;
            });
  }

  /** Version from the jar's manifest. */
  static final class Version implements CommandLine.IVersionProvider {
    @Override
    public String[] getVersion() {
      String version = Main.class.getPackage().getImplementationVersion();
      return new String[] {"infinilora " + (version == null ? "(development)" : version)};
    }
  }
}
