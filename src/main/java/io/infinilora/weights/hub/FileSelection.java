package io.infinilora.weights.hub;

import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import java.nio.file.FileSystems;
import java.nio.file.Path;
import java.nio.file.PathMatcher;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.regex.PatternSyntaxException;

/**
 * Which files of a repository serving needs. Pickles never are: to read one is to run code.
 *
 * @param files paths, without the shards of an index
 * @param index the safetensors index, whose shards are needed too
 * @param gguf the one file that is the model, if it is one
 */
record FileSelection(Set<String> files, Optional<String> index, Optional<String> gguf) {
  private static final String CONFIG = "config.json";
  private static final String SINGLE = "model.safetensors";
  private static final String INDEX = "model.safetensors.index.json";
  private static final String ADAPTER_CONFIG = "adapter_config.json";
  private static final String ADAPTER = "adapter_model.safetensors";
  private static final String TOKENIZER = "tokenizer.json";
  private static final String GGUF = ".gguf";
  private static final List<String> TEXT =
      List.of(
          "generation_config.json",
          TOKENIZER,
          "tokenizer_config.json",
          "special_tokens_map.json",
          "chat_template.jinja",
          "chat_template.json");
  private static final List<String> SLOW_TOKENIZER = List.of("vocab.json", "merges.txt");
  private static final List<String> PICKLES = List.of(".bin", ".pt", ".pth", ".ckpt", ".pkl");

  /** What a repository is wanted as. */
  enum Kind {
    MODEL,
    ADAPTER,
    ANY
  }

  /**
   * Chooses.
   *
   * @param place what holds the files, for messages
   * @param include glob patterns of GGUF files; empty for what the reference says
   * @param paths all files of the repository
   * @throws InfiniLoraException DOWNLOAD_FAILED if it holds nothing of the kind, or several GGUF
   *     files of which none is chosen
   */
  static FileSelection of(
      HubReference reference, String place, Kind kind, List<String> include, Set<String> paths) {
    Chooser chooser = new Chooser(reference, place, paths);
    if (reference.file().isPresent()) {
      return chooser.file(reference.file().get());
    }
    if (!include.isEmpty()) {
      return chooser.matching(include);
    }
    return switch (kind) {
      case MODEL -> chooser.model();
      case ADAPTER -> chooser.adapter();
      case ANY -> chooser.any();
    };
  }

  /** The choice within one repository. */
  private record Chooser(HubReference reference, String place, Set<String> paths) {

    FileSelection file(String file) {
      if (!file.endsWith(GGUF)) {
        throw error("%s is no GGUF file; only those can be chosen".formatted(file));
      }
      if (!paths.contains(file)) {
        throw error("%s has no %s; it has %s".formatted(place, file, shown(ggufs())));
      }
      return gguf(file);
    }

    FileSelection matching(List<String> patterns) {
      List<PathMatcher> matchers = patterns.stream().map(this::matcher).toList();
      List<String> matching =
          ggufs().stream()
              .filter(
                  file ->
                      matchers.stream()
                          .anyMatch(
                              m ->
                                  m.matches(Path.of(file))
                                      || m.matches(Path.of(file).getFileName())))
              .toList();
      if (matching.isEmpty()) {
        throw error(
            "no GGUF file of %s matches %s; it has %s"
                .formatted(place, String.join(" or ", patterns), shown(ggufs())));
      }
      return new FileSelection(
          new LinkedHashSet<>(matching),
          Optional.empty(),
          Optional.of(matching.getFirst()).filter(first -> matching.size() == 1));
    }

    private PathMatcher matcher(String pattern) {
      try {
        return FileSystems.getDefault().getPathMatcher("glob:" + pattern);
      } catch (PatternSyntaxException e) {
        throw error("\"%s\" is no file pattern: %s".formatted(pattern, e.getDescription()));
      }
    }

    FileSelection any() {
      if (!paths.contains(ADAPTER_CONFIG)) {
        return model();
      }
      FileSelection adapter = adapter();
      if (!hasSafetensorsModel()) {
        return adapter;
      }
      FileSelection model = model();
      model.files().addAll(adapter.files());
      return model;
    }

    FileSelection adapter() {
      if (!paths.contains(ADAPTER_CONFIG)) {
        throw error("%s has no %s, so it is not an adapter".formatted(place, ADAPTER_CONFIG));
      }
      if (!paths.contains(ADAPTER)) {
        throw error("%s has no %s%s".formatted(place, ADAPTER, pickles()));
      }
      return new FileSelection(
          new LinkedHashSet<>(List.of(ADAPTER_CONFIG, ADAPTER)),
          Optional.empty(),
          Optional.empty());
    }

    FileSelection model() {
      if (hasSafetensorsModel()) {
        return safetensors();
      }
      List<String> ggufs = ggufs();
      if (ggufs.size() == 1) {
        return gguf(ggufs.getFirst());
      }
      if (ggufs.size() > 1) {
        throw error(
            "%s has several GGUF files; choose one as %s:FILE. They are %s"
                .formatted(place, reference, shown(ggufs)));
      }
      if (paths.contains(ADAPTER_CONFIG)) {
        throw error(
            "%s is an adapter, not a model; serve it with --adapter NAME=%s"
                .formatted(place, reference));
      }
      throw error(
          "%s has neither %s with %s (or %s) nor a GGUF file%s"
              .formatted(place, CONFIG, SINGLE, INDEX, pickles()));
    }

    private boolean hasSafetensorsModel() {
      return paths.contains(CONFIG) && (paths.contains(SINGLE) || paths.contains(INDEX));
    }

    private FileSelection safetensors() {
      Set<String> files = new LinkedHashSet<>();
      files.add(CONFIG);
      TEXT.stream().filter(paths::contains).forEach(files::add);
      if (!paths.contains(TOKENIZER)) {
        SLOW_TOKENIZER.stream().filter(paths::contains).forEach(files::add);
      }
      boolean single = paths.contains(SINGLE);
      files.add(single ? SINGLE : INDEX);
      return new FileSelection(
          files, single ? Optional.empty() : Optional.of(INDEX), Optional.empty());
    }

    private static FileSelection gguf(String file) {
      return new FileSelection(
          new LinkedHashSet<>(List.of(file)), Optional.empty(), Optional.of(file));
    }

    private List<String> ggufs() {
      return paths.stream().filter(path -> path.endsWith(GGUF)).sorted().toList();
    }

    private String pickles() {
      List<String> found =
          paths.stream().filter(path -> PICKLES.stream().anyMatch(path::endsWith)).toList();
      return found.isEmpty()
          ? ""
          : "; its weights are pickles (%s), which run code when they are read and are never used"
              .formatted(shown(found));
    }

    private static String shown(List<String> files) {
      return files.isEmpty() ? "none" : HubErrors.shown(files);
    }

    private InfiniLoraException error(String message) {
      return HubErrors.of(reference, message);
    }
  }
}
