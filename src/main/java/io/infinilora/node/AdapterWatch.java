package io.infinilora.node;

import io.infinilora.adapter.AdapterDirectory;
import io.infinilora.core.AdapterAdmin.WhenInUse;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.smallrye.mutiny.Multi;
import io.smallrye.mutiny.Uni;
import io.vertx.core.Vertx;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Follows a directory of adapters: loads what is new, loads anew what has changed, unloads what is
 * gone. It acts only on what it has seen the same at two looks, so that nobody is served half an
 * upload. Failures are logged, and leave what serves serving.
 */
final class AdapterWatch {
  private static final Logger log = LoggerFactory.getLogger(AdapterWatch.class);
  private static final List<String> FILES =
      List.of("adapter_config.json", "adapter_model.safetensors");

  private final Path directory;
  private final Vertx vertx;
  private final NodeAdapters adapters;
  private final AtomicBoolean looking = new AtomicBoolean();

  /** Why the last look failed; empty if it did not. */
  private volatile String trouble = "";

  // Owned by whoever has set the flag.
  private Map<String, List<FileState>> lastLook;
  private final Map<String, List<FileState>> actedOn;

  private record FileState(long bytes, long modifiedNanos, Object key) {}

  private AdapterWatch(
      Path directory, Vertx vertx, NodeAdapters adapters, Map<String, List<FileState>> atStart) {
    this.directory = directory;
    this.vertx = vertx;
    this.adapters = adapters;
    lastLook = atStart;
    actedOn = new HashMap<>(atStart);
  }

  /**
   * A watch that takes what is there now for loaded. Blocks.
   *
   * @throws InfiniLoraException BAD_CONFIG if the directory cannot be listed
   */
  static AdapterWatch of(Path directory, Vertx vertx, NodeAdapters adapters) {
    return new AdapterWatch(directory, vertx, adapters, look(directory));
  }

  /** Looks now and then, from now on. */
  void every(Duration interval) {
    vertx.setPeriodic(Math.max(1, interval.toMillis()), t -> follow().subscribe().with(done -> {}));
  }

  /** {@link #poll}, but a look that fails is logged, once as long as the reason is the same. */
  Uni<Void> follow() {
    return poll()
        .invoke(() -> trouble = "")
        .onFailure()
        .recoverWithItem(
            e -> {
              String reason = String.valueOf(e.getMessage());
              if (!reason.equals(trouble)) {
                log.warn("changes are not followed for now: {}", reason);
              }
              trouble = reason;
              return null;
            });
  }

  /**
   * Looks once, unless a look is going on.
   *
   * @return completes when what it has found to be loaded is loaded or refused
   */
  Uni<Void> poll() {
    return Uni.createFrom()
        .deferred(
            () ->
                looking.compareAndSet(false, true)
                    ? Uni.createFrom()
                        .completionStage(
                            () ->
                                vertx
                                    .executeBlocking(() -> look(directory), false)
                                    .toCompletionStage())
                        .chain(this::act)
                        .onTermination()
                        .invoke(() -> looking.set(false))
                    : Uni.createFrom().voidItem());
  }

  private Uni<Void> act(Map<String, List<FileState>> now) {
    List<String> changed = new ArrayList<>();
    now.forEach(
        (name, state) -> {
          if (state.equals(lastLook.get(name)) && !state.equals(actedOn.get(name))) {
            changed.add(name);
          }
        });
    for (String name : List.copyOf(actedOn.keySet())) {
      if (!now.containsKey(name) && !lastLook.containsKey(name)) {
        actedOn.remove(name);
        unload(name);
      }
    }
    lastLook = now;
    return Multi.createFrom()
        .iterable(changed)
        .onItem()
        .transformToUniAndConcatenate(
            name -> {
              actedOn.put(name, now.get(name));
              return load(name);
            })
        .collect()
        .last()
        .replaceWithVoid();
  }

  private Uni<Void> load(String name) {
    return adapters
        .add(name, directory.resolve(name).toString())
        .invoke(status -> log.info("loaded adapter {}", status.id()))
        .replaceWithVoid()
        .onFailure()
        .recoverWithItem(
            e -> {
              log.warn("adapter {} was not loaded: {}", name, e.getMessage());
              return null;
            });
  }

  /** Waits for nobody: running requests may take their time. */
  private void unload(String name) {
    adapters
        .unload(name, WhenInUse.WAIT)
        .subscribe()
        .with(
            done -> log.info("unloaded adapter {}", name),
            e -> {
              boolean gone =
                  e instanceof InfiniLoraException known
                      && known.code() == ErrorCode.MODEL_NOT_FOUND;
              if (!gone) {
                log.warn("adapter {} was not unloaded: {}", name, e.getMessage());
              }
            });
  }

  /** The adapters that have both files. */
  private static Map<String, List<FileState>> look(Path directory) {
    Map<String, List<FileState>> found = new HashMap<>();
    for (Path adapter : AdapterDirectory.list(directory)) {
      List<FileState> states = new ArrayList<>();
      for (String file : FILES) {
        try {
          BasicFileAttributes attributes =
              Files.readAttributes(adapter.resolve(file), BasicFileAttributes.class);
          states.add(
              new FileState(
                  attributes.size(),
                  attributes.lastModifiedTime().to(TimeUnit.NANOSECONDS),
                  attributes.fileKey()));
        } catch (NoSuchFileException e) {
          break; // It is not complete, or just going.
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
      }
      if (states.size() == FILES.size()) {
        found.put(adapter.getFileName().toString(), states);
      }
    }
    return found;
  }
}
