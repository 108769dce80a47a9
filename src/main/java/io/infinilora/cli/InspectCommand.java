package io.infinilora.cli;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.node.ModelReport;
import io.infinilora.weights.AdapterReport;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.infinilora.weights.PeftAdapter;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code infinilora inspect}. */
@Command(
    name = "inspect",
    description = {
      "Says what a model or an adapter is and what it takes to serve it, without loading it.",
      "Exit code 1 if its files are broken, or if an adapter does not fit the model given by --base."
    })
final class InspectCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @Parameters(
      paramLabel = "PATH",
      description = "GGUF file, directory with safetensors, or directory of a PEFT adapter.")
  private Path path;

  @Option(
      names = "--base",
      paramLabel = "MODEL",
      description = "Model that the adapter is to change.")
  private Optional<Path> base = Optional.empty();

  @Option(names = "--json", description = "JSON instead of text.")
  private boolean json;

  /**
   * Whether an adapter fits a model.
   *
   * @param modules projections that it changes, those of experts counted one by one
   * @param reason why it does not, or null
   */
  record Fit(String base, boolean fits, int modules, String reason) {}

  @Override
  public Integer call() throws JsonProcessingException {
    if (AdapterReport.isAdapter(path)) {
      return adapter();
    }
    if (base.isPresent()) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG, "--base is for adapters, but " + path + " is none");
    }
    try (Checkpoint checkpoint = Checkpoints.open(path)) {
      ModelReport report = ModelReport.of(checkpoint);
      print(Map.of("model", report), InspectText.of(report));
    }
    return 0;
  }

  private int adapter() throws JsonProcessingException {
    AdapterReport report = AdapterReport.read(path);
    Optional<Fit> fit = base.map(this::fit);
    Map<String, Object> tree = new LinkedHashMap<>();
    tree.put("adapter", report);
    fit.ifPresent(f -> tree.put("fit", f));
    print(tree, InspectText.of(path, report, fit));
    return fit.isEmpty() || fit.get().fits() ? 0 : 1;
  }

  private Fit fit(Path model) {
    try (Checkpoint checkpoint = Checkpoints.open(model)) {
      try (PeftAdapter adapter = PeftAdapter.open(path, checkpoint.spec())) {
        return new Fit(model.toString(), true, adapter.modules().size(), null);
      } catch (InfiniLoraException e) {
        return new Fit(model.toString(), false, 0, e.getMessage());
      }
    }
  }

  private void print(Map<String, Object> tree, InspectText text) throws JsonProcessingException {
    PrintWriter out = command.commandLine().getOut();
    ObjectMapper mapper = new ObjectMapper().enable(SerializationFeature.INDENT_OUTPUT);
    out.println(json ? mapper.writeValueAsString(tree) : text);
    out.flush();
  }
}
