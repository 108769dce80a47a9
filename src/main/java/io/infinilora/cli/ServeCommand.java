package io.infinilora.cli;

import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.WeightSource;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code infinilora serve}. */
@Command(
    name = "serve",
    description = {
      "Serves a model and its adapters over HTTP until interrupted.",
      "Options win over environment variables (INFINILORA_SERVER_PORT for server.port), which win over the settings file."
    })
final class ServeCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @Mixin private HubOptions hub = new HubOptions();

  private final Map<String, String> flags = new LinkedHashMap<>();

  private Optional<String> randomWeights = Optional.empty();

  @Option(
      names = "--model",
      paramLabel = "SOURCE",
      description =
          "GGUF file, directory with safetensors and config.json, or hf:REPO[@REVISION][:FILE.gguf]"
              + " of the Hugging Face hub.")
  void model(String value) {
    flags.put("model", value);
  }

  @Option(
      names = "--random-weights",
      paramLabel = "CONFIG",
      description =
          "Serve random weights for this config.json instead of a model, to measure speed.")
  void randomWeights(Path config) {
    this.randomWeights = Optional.of(WeightSource.Random.PREFIX + config);
  }

  @Option(
      names = "--adapters",
      paramLabel = "DIR",
      description = "Directory of PEFT adapters, one per subdirectory.")
  void adapters(String value) {
    flags.put("adapters", value);
  }

  @Option(
      names = "--adapter",
      paramLabel = "NAME=SOURCE",
      description =
          "One adapter more, a directory or hf:REPO[@REVISION], and its name for requests; may be"
              + " repeated.")
  void adapter(Map<String, String> values) {
    values.forEach((name, source) -> flags.put("adapter." + name, source));
  }

  @Option(
      names = "--lora",
      paramLabel = "MODE",
      description = "none, coupled or disaggregated (default).")
  void lora(String value) {
    flags.put("loraMode", value);
  }

  @Option(
      names = "--role",
      paramLabel = "ROLE",
      description =
          "all (default): everything in this process. base, lora or gateway: one part of a cluster.")
  void role(String value) {
    flags.put("role", value);
  }

  @Option(
      names = "--peers",
      paramLabel = "HOST:PORT",
      split = ",",
      description = "Processes of the cluster to join; one that is there is enough.")
  void peers(List<String> values) {
    flags.put("cluster.peers", String.join(",", values));
  }

  @Option(
      names = "--cluster-host",
      paramLabel = "ADDRESS",
      description = "Address at which the cluster reaches this process; 127.0.0.1 by default.")
  void clusterHost(String value) {
    flags.put("cluster.host", value);
  }

  @Option(
      names = "--cluster-port",
      paramLabel = "PORT",
      description = "Port of the cluster's membership; 7800 by default.")
  void clusterPort(String value) {
    flags.put("cluster.port", value);
  }

  @Option(
      names = "--host",
      paramLabel = "ADDRESS",
      description = "Address to listen on; 127.0.0.1 by default.")
  void host(String value) {
    flags.put("server.host", value);
  }

  @Option(
      names = "--port",
      paramLabel = "PORT",
      description = "Port to listen on; 8080 by default, 0 takes a free one.")
  void port(String value) {
    flags.put("server.port", value);
  }

  @Option(
      names = "--backend",
      paramLabel = "NAME",
      description = "cpu (default), cuda, or auto: a GPU if one can be used.")
  void backend(String value) {
    flags.put("device.kind", value);
  }

  @Option(
      names = "--device",
      paramLabel = "INDEX",
      description = "Number of the GPU; 0 by default.")
  void device(String value) {
    flags.put("device.index", value);
  }

  @Option(
      names = "--threads",
      paramLabel = "N",
      description = "CPU threads of the base model; one per processor by default.")
  void threads(String value) {
    flags.put("engine.threads", value);
  }

  @Option(
      names = "--context-length",
      paramLabel = "N",
      description = "Longest prompt plus output, in tokens.")
  void contextLength(String value) {
    flags.put("engine.contextLength", value);
  }

  @Option(
      names = "--kv-memory",
      paramLabel = "SIZE",
      description = "Memory for keys and values; 512MiB by default, on a GPU what is left.")
  void kvMemory(String value) {
    flags.put("engine.kvMemory", value);
  }

  @Option(
      names = "--set",
      paramLabel = "KEY=VALUE",
      description = "Any setting of the settings file, e.g. engine.maxRunning=16.")
  void set(Map<String, String> values) {
    flags.putAll(values);
  }

  private void useRandomWeights(String source) {
    if (flags.put("model", source) != null) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG, "--model and --random-weights exclude each other");
    }
  }

  @Override
  public Integer call() throws InterruptedException {
    randomWeights.ifPresent(this::useRandomWeights);
    InfiniLoraConfig settings = hub.settings(flags);
    if (settings.model().isEmpty()) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG, "no model: give --model SOURCE, or set model in the settings file");
    }
    PrintWriter out = command.commandLine().getOut();
    return new Server(settings, out).run();
  }
}
