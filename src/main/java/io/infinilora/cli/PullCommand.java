package io.infinilora.cli;

import io.infinilora.config.HubConfig;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.weights.hub.Hub;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code infinilora pull}. */
@Command(
    name = "pull",
    description = {
      "Downloads a model or an adapter from the Hugging Face hub and prints where it lies.",
      "Only files that serving needs are downloaded, never pickles. The cache is the one of Hugging"
          + " Face's own tools; a download that was interrupted goes on where it stopped."
    },
    footer = {
      "",
      "Examples:",
      "  infinilora pull HuggingFaceTB/SmolLM2-135M-Instruct",
      "  infinilora pull acme/tiny@v1.0",
      "  infinilora pull acme/tiny-GGUF:tiny-q8_0.gguf",
      "  infinilora pull acme/tiny-GGUF --include '*q4_k_m*'",
      "  HF_TOKEN=... infinilora pull acme/private-adapter",
      "",
      "Serve it: infinilora serve --model hf:REPO --adapter NAME=hf:REPO"
    })
final class PullCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @Mixin private HubOptions options = new HubOptions();

  @Parameters(
      paramLabel = "REPO[@REVISION][:FILE]",
      description =
          "Repository, with a branch, tag or commit (main if not given) and, where there are several"
              + " GGUF files, the one to use.")
  private String repository;

  @Option(
      names = "--include",
      paramLabel = "PATTERN",
      description = "GGUF files to download, e.g. '*Q4_K_M*'; may be repeated.")
  private List<String> include = List.of();

  @Override
  public Integer call() {
    HubReference reference = reference();
    HubConfig settings = options.settings(Map.of()).hub();
    // Standard output carries the path alone, so that a script can take it.
    try (Hub hub = new Hub(settings, PullProgress.of(command.commandLine().getErr()))) {
      command.commandLine().getOut().println(hub.pull(reference, include));
      command.commandLine().getOut().flush();
    }
    return 0;
  }

  private HubReference reference() {
    String text =
        repository.startsWith(HubReference.PREFIX)
            ? repository.substring(HubReference.PREFIX.length())
            : repository;
    try {
      return HubReference.parse(text);
    } catch (IllegalArgumentException e) {
      throw new InfiniLoraException(ErrorCode.BAD_CONFIG, e.getMessage(), e);
    }
  }
}
