package io.infinilora.cli;

import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.infinilora.weights.Upcycling;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code infinilora upcycle}. */
@Command(
    name = "upcycle",
    showDefaultValues = true,
    description = {
      "Makes a mixture of experts (mixtral) out of a dense llama or mistral.",
      "Every expert is a copy of the MLP, so the answers stay the same."
    })
final class UpcycleCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @Parameters(
      paramLabel = "MODEL",
      description = "A GGUF file, or a directory with config.json and safetensors.")
  private Path model;

  @Parameters(
      paramLabel = "OUT",
      description = "The file or directory to be made, of the model's own format.")
  private Path out;

  @Option(names = "--experts", paramLabel = "N", description = "Experts per layer.")
  private int experts = 8;

  @Option(names = "--top-k", paramLabel = "K", description = "Experts per token.")
  private int topK = 2;

  @Option(names = "--seed", paramLabel = "S", description = "Seed of the routers' random weights.")
  private long seed = 1;

  @Override
  public Integer call() {
    new Upcycling(experts, topK, seed).write(model, out);
    PrintWriter writer = command.commandLine().getOut();
    try (Checkpoint made = Checkpoints.open(out)) {
      writer.println(made.describe());
    }
    writer.flush();
    return 0;
  }
}
