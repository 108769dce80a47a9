package io.infinilora.cli;

import io.infinilora.config.ClusterConfig;
import io.infinilora.config.DeviceConfig;
import io.infinilora.config.DeviceKind;
import io.infinilora.config.HostPort;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.verify.CaseResult;
import io.infinilora.verify.Verifier;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code infinilora verify}. */
@Command(
    name = "verify",
    description = {
      "Runs reference fixtures through the whole engine and compares logits and tokens.",
      "Exit code 1 if any case fails. Models of unsupported architectures are skipped."
    })
final class VerifyCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @Parameters(paramLabel = "DIR", description = "A fixture, or a directory of fixtures.")
  private Path directory;

  @Option(
      names = "--backend",
      paramLabel = "NAME",
      description = "cpu (default) or cuda.",
      defaultValue = "cpu")
  private BackendName backend;

  @Option(
      names = "--device",
      paramLabel = "INDEX",
      description = "Number of the GPU; 0 by default.",
      defaultValue = "0")
  private int device;

  @Option(
      names = "--lora",
      paramLabel = "MODE",
      description = "none, coupled or disaggregated; all of them if not given.")
  private Optional<LoraMode> lora = Optional.empty();

  @Option(
      names = "--lora-shards",
      paramLabel = "XxY",
      description = "Divide the LoRA server into expert ranges x layer ranges; 1x1 by default.",
      defaultValue = "1x1")
  private LoraGrid shards;

  @Option(
      names = "--peers",
      paramLabel = "HOST:PORT",
      split = ",",
      description =
          "Join the cluster of these processes and use its LoRA server, which must serve the fixture's model and adapters.")
  private List<HostPort> peers = List.of();

  @Option(
      names = "--cluster-host",
      paramLabel = "ADDRESS",
      description = "Address at which the cluster reaches this process; 127.0.0.1 by default.",
      defaultValue = ClusterConfig.DEFAULT_HOST)
  private String clusterHost;

  @Option(
      names = "--cluster-port",
      paramLabel = "PORT",
      description = "Port of the cluster's membership in this process; 7899 by default.",
      defaultValue = "7899")
  private int clusterPort;

  @Option(
      names = "--filter",
      paramLabel = "NAME",
      description = "Only fixtures whose name contains NAME.")
  private Optional<String> filter = Optional.empty();

  /** Backends that can be verified. */
  enum BackendName {
    cpu(DeviceKind.CPU),
    cuda(DeviceKind.CUDA);

    private final DeviceKind kind;

    BackendName(DeviceKind kind) {
      this.kind = kind;
    }
  }

  @Override
  public Integer call() {
    PrintWriter out = command.commandLine().getOut();
    LoraMode[] modes = modes();
    out.printf(
        "backend %s, lora %s%s%n",
        backend,
        Arrays.toString(modes).toLowerCase(Locale.ROOT),
        peers.isEmpty() ? "" : " of the cluster at " + peers);
    out.printf("%-14s %-14s %-10s %-6s %-10s %s%n", "fixture", "lora", "case", "", "max error", "");
    Map<CaseResult.Status, Integer> counts = new EnumMap<>(CaseResult.Status.class);
    for (LoraMode mode : modes) {
      verifier(mode)
          .verify(
              directory,
              filter,
              r -> {
                counts.merge(r.status(), 1, Integer::sum);
                print(out, mode, r);
              });
    }
    int passed = counts.getOrDefault(CaseResult.Status.PASS, 0);
    int failed = counts.getOrDefault(CaseResult.Status.FAIL, 0);
    int skipped = counts.getOrDefault(CaseResult.Status.SKIP, 0);
    out.printf("%d passed, %d failed, %d skipped%n", passed, failed, skipped);
    out.flush();
    return failed == 0 ? 0 : 1;
  }

  private LoraMode[] modes() {
    if (peers.isEmpty()) {
      return lora.map(m -> new LoraMode[] {m}).orElseGet(LoraMode::values);
    }
    if (lora.isPresent() && lora.get() != LoraMode.DISAGGREGATED) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG, "--peers needs --lora disaggregated, or no --lora");
    }
    return new LoraMode[] {LoraMode.DISAGGREGATED};
  }

  private Verifier verifier(LoraMode mode) {
    return peers.isEmpty()
        ? new Verifier(mode, shards).on(new DeviceConfig(backend.kind, device, Optional.empty()))
        : Verifier.of(
            new ClusterConfig(
                ClusterConfig.DEFAULT_NAME,
                Optional.of("verify-" + ProcessHandle.current().pid()),
                clusterHost,
                clusterPort,
                0,
                0,
                peers,
                Optional.empty(),
                Optional.empty()),
            shards);
  }

  private static void print(PrintWriter out, LoraMode mode, CaseResult r) {
    String error = Double.isNaN(r.worstError()) ? "-" : "%.2e".formatted(r.worstError());
    out.printf(
        "%-14s %-14s %-10s %-6s %-10s %s%n",
        r.fixture(), mode.name().toLowerCase(Locale.ROOT), r.name(), r.status(), error, r.detail());
    out.flush();
  }
}
