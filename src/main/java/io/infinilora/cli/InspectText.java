package io.infinilora.cli;

import io.infinilora.node.ModelReport;
import io.infinilora.weights.AdapterReport;
import java.nio.file.Path;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.SortedSet;
import java.util.stream.Collectors;

/** Reports as aligned lines of a name and a value. */
final class InspectText {
  private final Map<String, String> lines = new LinkedHashMap<>();

  private InspectText() {}

  static InspectText of(ModelReport model) {
    InspectText text = new InspectText();
    text.add("model", model.source());
    text.add("architecture", model.architecture());
    text.add("layers", "%d, hidden size %d".formatted(model.layers(), model.hidden()));
    text.add(
        "attention",
        "%d heads of %d, %d for keys and values%s"
            .formatted(
                model.heads(),
                model.headDim(),
                model.kvHeads(),
                model.slidingWindow() > 0 ? ", sliding window " + model.slidingWindow() : ""));
    text.add(
        "feed-forward",
        model.experts() == 0
            ? "size " + model.intermediate()
            : "%d experts of size %d, %d per token"
                .formatted(model.experts(), model.intermediate(), model.expertsPerToken()));
    text.add(
        "parameters",
        model.experts() == 0
            ? count(model.parameters())
            : "%s, %s per token"
                .formatted(count(model.parameters()), count(model.activeParameters())));
    text.add("weights", bytes(model.bytes()) + " as stored: " + types(model.bytesByType()));
    text.add("per layer", range(model.bytesByLayer()));
    text.add("outside", bytes(model.bytesOutsideLayers()));
    text.add("KV cache", bytes(model.kvBytesPerToken()) + " per token");
    text.add("context", model.context() + " tokens");
    text.add("vocabulary", model.vocabulary() + " tokens");
    text.add("tokenizer", model.tokenizer() == null ? "none" : model.tokenizer());
    text.add("chat template", model.chatTemplate() ? "yes" : "none");
    return text;
  }

  static InspectText of(Path path, AdapterReport adapter, Optional<InspectCommand.Fit> fit) {
    InspectText text = new InspectText();
    text.add("adapter", path.toString());
    text.add("trained on", adapter.baseModel() == null ? "not said" : adapter.baseModel());
    text.add("PEFT", adapter.peftVersion() == null ? "version not said" : adapter.peftVersion());
    text.add("targets", String.join(", ", adapter.targets()));
    text.add("layers", spans(adapter.layers()));
    if (adapter.experts() > 0) {
      text.add("experts", Integer.toString(adapter.experts()));
    }
    text.add("rank", joined(adapter.ranks()));
    text.add("scale", joined(adapter.scales()) + (adapter.rankStabilised() ? " (rsLoRA)" : ""));
    text.add("pairs", Integer.toString(adapter.pairs()));
    text.add("parameters", count(adapter.parameters()));
    text.add("weights", types(adapter.bytesByType()));
    text.add("digest", adapter.digest());
    fit.ifPresent(
        f -> {
          text.add("base", f.base());
          text.add("fits", f.fits() ? "yes, " + f.modules() + " projections" : "no: " + f.reason());
        });
    return text;
  }

  private void add(String name, String value) {
    lines.put(name, value);
  }

  private static String bytes(long bytes) {
    if (bytes < 10_000) {
      return bytes + " bytes";
    }
    double kib = bytes / 1024.0;
    String[] units = {"KiB", "MiB", "GiB"};
    int unit = 0;
    while (kib >= 1024 && unit < 2) {
      kib /= 1024;
      unit++;
    }
    return String.format(Locale.ROOT, "%.1f %s", kib, units[unit]);
  }

  private static String count(long parameters) {
    if (parameters < 1_000_000) {
      return Long.toString(parameters);
    }
    return parameters < 1_000_000_000
        ? String.format(Locale.ROOT, "%.1f million", parameters / 1e6)
        : String.format(Locale.ROOT, "%.2f billion", parameters / 1e9);
  }

  private static String types(Map<String, Long> bytesByType) {
    return bytesByType.entrySet().stream()
        .map(e -> e.getKey() + " " + bytes(e.getValue()))
        .collect(Collectors.joining(", "));
  }

  private static String range(List<Long> sizes) {
    String least = bytes(sizes.stream().min(Long::compare).orElse(0L));
    String most = bytes(sizes.stream().max(Long::compare).orElse(0L));
    return least.equals(most) ? least : least + " to " + most;
  }

  private static String joined(Collection<?> values) {
    return values.stream().map(Object::toString).collect(Collectors.joining(", "));
  }

  /** Numbers with runs drawn together, e.g. {@code 0-3, 7}. */
  private static String spans(SortedSet<Integer> numbers) {
    StringBuilder result = new StringBuilder();
    for (int from : numbers) {
      if (numbers.contains(from - 1)) {
        continue;
      }
      int to = from;
      while (numbers.contains(to + 1)) {
        to++;
      }
      result.append(result.isEmpty() ? "" : ", ").append(from);
      result.append(to > from ? "-" + to : "");
    }
    return result.isEmpty() ? "none by number" : result.toString();
  }

  @Override
  public String toString() {
    int width = lines.keySet().stream().mapToInt(String::length).max().orElse(0);
    return lines.entrySet().stream()
        .map(e -> ("%-" + width + "s  %s").formatted(e.getKey(), e.getValue()))
        .collect(Collectors.joining(System.lineSeparator()));
  }
}
