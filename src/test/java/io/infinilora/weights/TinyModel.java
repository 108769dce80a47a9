package io.infinilora.weights;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.function.Consumer;

/** Copies of the reference fixtures to be damaged or changed. */
final class TinyModel {

  static final Path FIXTURES = Path.of("src/test/resources/fixtures");
  private static final ObjectMapper MAPPER = new ObjectMapper();

  private TinyModel() {}

  /** Copies a fixture's checkpoint, without adapters and expectations, into a folder. */
  static Path copy(String fixture, Path folder) {
    List.of("config.json", "generation_config.json", "model.safetensors")
        .forEach(name -> copyFile(FIXTURES.resolve(fixture), folder, name));
    return folder;
  }

  /** Copies an adapter of a fixture into a folder. */
  static Path copyAdapter(String fixture, String adapter, Path folder) {
    Path from = FIXTURES.resolve(fixture).resolve("adapters").resolve(adapter);
    List.of("adapter_config.json", "adapter_model.safetensors")
        .forEach(name -> copyFile(from, folder, name));
    return folder;
  }

  private static void copyFile(Path from, Path to, String name) {
    try {
      Files.copy(from.resolve(name), to.resolve(name), StandardCopyOption.REPLACE_EXISTING);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Copies a fixture's checkpoint into a folder and changes its tensors there. */
  static Path change(String fixture, Path folder, Consumer<SafetensorsBuilder> change) {
    copy(fixture, folder);
    Path file = folder.resolve("model.safetensors");
    SafetensorsBuilder builder = SafetensorsBuilder.of(file);
    change.accept(builder);
    builder.write(file);
    return folder;
  }

  /** Changes a JSON file in place. */
  static void edit(Path file, Consumer<ObjectNode> change) {
    try {
      ObjectNode tree = (ObjectNode) MAPPER.readTree(file.toFile());
      change.accept(tree);
      MAPPER.writeValue(file.toFile(), tree);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Sets one field of a JSON file to a value given as JSON. */
  static void set(Path file, String key, String json) {
    edit(file, tree -> tree.set(key, json(json)));
  }

  static JsonNode json(String json) {
    try {
      return MAPPER.readTree(json);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
