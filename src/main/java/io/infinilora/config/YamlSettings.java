package io.infinilora.config;

import io.infinilora.core.FileProblem;
import java.io.IOException;
import java.io.Reader;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import org.snakeyaml.engine.v2.api.LoadSettings;
import org.snakeyaml.engine.v2.api.lowlevel.Compose;
import org.snakeyaml.engine.v2.exceptions.Mark;
import org.snakeyaml.engine.v2.exceptions.YamlEngineException;
import org.snakeyaml.engine.v2.nodes.MappingNode;
import org.snakeyaml.engine.v2.nodes.Node;
import org.snakeyaml.engine.v2.nodes.NodeTuple;
import org.snakeyaml.engine.v2.nodes.ScalarNode;
import org.snakeyaml.engine.v2.nodes.SequenceNode;
import org.snakeyaml.engine.v2.nodes.Tag;

/** Reads a YAML file of nested mappings into dotted keys, with the line of each. */
final class YamlSettings {
  private final Path file;
  private final Map<String, Setting> settings = new LinkedHashMap<>();

  private YamlSettings(Path file) {
    this.file = file;
  }

  static Map<String, Setting> read(Path file) {
    YamlSettings yaml = new YamlSettings(file);
    // A reader would fail on other bytes too late to be told from faults of the YAML.
    try (Reader reader = new StringReader(Files.readString(file))) {
      LoadSettings load = LoadSettings.builder().setLabel(file.toString()).build();
      Optional<Node> root = new Compose(load).composeReader(reader);
      root.filter(node -> node.getTag() != Tag.NULL).ifPresent(node -> yaml.addAll("", node));
    } catch (IOException e) {
      throw Check.error("cannot read %s: %s".formatted(file, FileProblem.of(e)));
    } catch (YamlEngineException e) {
      throw Check.error("%s is not valid YAML: %s".formatted(file, e.getMessage()));
    }
    return yaml.settings;
  }

  private void addAll(String prefix, Node node) {
    if (!(node instanceof MappingNode mapping)) {
      throw Check.error("%s: settings must be written as \"key: value\"".formatted(origin(node)));
    }
    for (NodeTuple entry : mapping.getValue()) {
      if (!(entry.getKeyNode() instanceof ScalarNode name)) {
        throw Check.error("%s: a key must be a plain name".formatted(origin(entry.getKeyNode())));
      }
      add(prefix + name.getValue(), name, entry.getValueNode());
    }
  }

  private void add(String key, ScalarNode name, Node value) {
    switch (value) {
      case MappingNode group -> addAll(key + ".", group);
      case ScalarNode scalar ->
          put(
              key,
              new Setting(
                  scalar.getTag() == Tag.NULL ? null : scalar.getValue(), origin(name), false));
      case SequenceNode list -> put(key, new Setting(items(key, list), origin(name), true));
      default -> throw Check.error("%s: %s must be a single value".formatted(origin(name), key));
    }
  }

  private String items(String key, SequenceNode list) {
    return list.getValue().stream()
        .map(
            item -> {
              if (item instanceof ScalarNode scalar && scalar.getValue().indexOf(',') < 0) {
                return scalar.getValue();
              }
              throw Check.error(
                  "%s: an item of %s must be a single value without commas"
                      .formatted(origin(item), key));
            })
        .collect(Collectors.joining(","));
  }

  private void put(String key, Setting setting) {
    Setting earlier = settings.put(key, setting);
    if (earlier != null) {
      throw Check.error(
          "%s: %s is set already, at %s".formatted(setting.origin(), key, earlier.origin()));
    }
  }

  private String origin(Node node) {
    return file + node.getStartMark().map(Mark::getLine).map(line -> ":" + (line + 1)).orElse("");
  }
}
