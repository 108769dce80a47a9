package io.infinilora.weights.hub;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.infinilora.core.HubReference;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Set;
import java.util.TreeSet;

/** Reads which files a safetensors index spreads its tensors over. */
final class ShardIndex {
  private static final ObjectMapper MAPPER = new ObjectMapper();

  private ShardIndex() {}

  /**
   * Names of the shards, next to the index.
   *
   * @param place what holds the files, for messages
   * @param paths all files of the repository
   */
  static Set<String> shards(
      HubReference reference, String place, String name, Path index, Set<String> paths) {
    JsonNode map;
    try {
      map = MAPPER.readTree(index.toFile()).path("weight_map");
    } catch (IOException e) {
      throw HubErrors.of(reference, name + " cannot be read: " + e.getMessage(), e);
    }
    Set<String> shards = new TreeSet<>();
    for (JsonNode shard : map) {
      String file = shard.asText();
      if (!file.endsWith(".safetensors") || !HubReference.isFile(file)) {
        throw HubErrors.of(
            reference,
            "%s places tensors in \"%s\", which is no safetensors file of a repository"
                .formatted(name, HubErrors.shown(file)));
      }
      if (!paths.contains(file)) {
        throw HubErrors.of(
            reference, "%s has no %s, in which %s places tensors".formatted(place, file, name));
      }
      shards.add(file);
    }
    if (shards.isEmpty()) {
      throw HubErrors.of(reference, name + " has no weight_map");
    }
    return shards;
  }
}
