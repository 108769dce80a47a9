package io.infinilora.weights;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Several safetensors files joined by {@code model.safetensors.index.json}. */
final class ShardedSafetensors implements TensorIndex {

  private final JsonFields index;
  private final List<SafetensorsFile> shards = new ArrayList<>();
  private final Map<String, SafetensorsFile> owners = new LinkedHashMap<>();

  private ShardedSafetensors(JsonFields index) {
    this.index = index;
  }

  /**
   * Opens the index and every shard that it names, next to it.
   *
   * @throws InfiniLoraException BAD_MODEL_FILE if a shard is missing or lacks a tensor that the
   *     index promises, or if two shards hold the same tensor
   */
  static ShardedSafetensors open(Path indexFile, Arena arena) {
    JsonFields index = JsonFields.read(indexFile, ErrorCode.BAD_MODEL_FILE);
    ShardedSafetensors result = new ShardedSafetensors(index);
    JsonFields map =
        index.object("weight_map").orElseThrow(() -> index.fault("weight_map is missing"));
    Map<String, SafetensorsFile> opened = new LinkedHashMap<>();
    for (String tensor : (Iterable<String>) map.tree()::fieldNames) {
      String shardName = map.text(tensor).orElseThrow(() -> map.bad(tensor, "names no file"));
      SafetensorsFile shard = opened.get(shardName);
      if (shard == null) {
        shard = result.openShard(indexFile, tensor, shardName, arena);
        opened.put(shardName, shard);
      }
      if (!shard.names().contains(tensor)) {
        throw shard.tensorFault(tensor, "is missing, though " + indexFile + " places it here");
      }
    }
    return result;
  }

  private SafetensorsFile openShard(Path indexFile, String tensor, String name, Arena arena) {
    if (name.isEmpty() || name.contains("/") || name.contains("\\") || name.startsWith("..")) {
      throw index.fault("tensor " + tensor + " is placed in \"" + name + "\", not a file name");
    }
    Path path = indexFile.resolveSibling(name);
    SafetensorsFile shard = SafetensorsFile.open(path, ErrorCode.BAD_MODEL_FILE, arena);
    shards.add(shard);
    for (String own : shard.names()) {
      SafetensorsFile other = owners.putIfAbsent(own, shard);
      if (other != null) {
        throw shard.tensorFault(own, "is also in " + other.file().path());
      }
    }
    return shard;
  }

  /** The shards in the order in which the index names them. */
  @Override
  public List<MappedFile> files() {
    return shards.stream().map(SafetensorsFile::file).toList();
  }

  @Override
  public Set<String> names() {
    return Collections.unmodifiableSet(owners.keySet());
  }

  @Override
  public TensorView view(String name) {
    return owners.get(name).view(name);
  }

  @Override
  public TensorView bytes(String name) {
    return owners.get(name).bytes(name);
  }

  @Override
  public boolean supported(String name) {
    return owners.get(name).supported(name);
  }

  @Override
  public InfiniLoraException fault(String message) {
    return index.fault(message);
  }
}
