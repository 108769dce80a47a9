package io.infinilora.weights.hub;

import io.infinilora.config.HubConfig;
import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.weights.hub.FileSelection.Kind;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/**
 * Turns hub references into files of this machine, downloading what is not in the cache. Offline,
 * the cache alone is used. Thread-safe; methods block for as long as a download takes.
 */
public final class Hub implements AutoCloseable {
  private final HubConfig config;
  private final HubListener listener;
  private final HubRuntime runtime;
  private final HubCache cache;
  private final HubClient client;
  private final Retries retries;

  /**
   * A hub that connects only when it is asked for something.
   *
   * @param listener told how downloads go
   */
  public Hub(HubConfig config, HubListener listener) {
    this(config, listener, HubRuntime.REAL);
  }

  Hub(HubConfig config, HubListener listener, HubRuntime runtime) {
    this.config = config;
    this.listener = listener;
    this.runtime = runtime;
    cache = new HubCache(config.cacheOrDefault().toAbsolutePath());
    client = new HubClient(config, runtime);
    retries = new Retries(runtime.pause(), listener);
  }

  /**
   * A model: a directory with safetensors, or a GGUF file.
   *
   * @throws InfiniLoraException DOWNLOAD_FAILED naming the repository and what is wrong
   */
  public Path model(HubReference reference) {
    return get(reference, Kind.MODEL, List.of());
  }

  /**
   * An adapter's directory.
   *
   * @throws InfiniLoraException DOWNLOAD_FAILED naming the repository and what is wrong
   */
  public Path adapter(HubReference reference) {
    return get(reference, Kind.ADAPTER, List.of());
  }

  /**
   * Whatever of a repository can be served: a model, an adapter, or GGUF files.
   *
   * @param include glob patterns of GGUF files, by path or name; empty for none in particular
   * @return the GGUF file if it is one, else the directory
   * @throws InfiniLoraException DOWNLOAD_FAILED naming the repository and what is wrong
   */
  public Path pull(HubReference reference, List<String> include) {
    return get(reference, Kind.ANY, include);
  }

  private Path get(HubReference reference, Kind kind, List<String> include) {
    try {
      return config.offline()
          ? fromCache(reference, kind, include)
          : fromHub(reference, kind, include);
    } catch (IOException e) {
      throw HubErrors.of(
          reference, "the cache %s cannot be used: %s".formatted(cache.root(), e), e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw HubErrors.of(reference, "interrupted; what has been downloaded is kept", e);
    }
  }

  private Path fromCache(HubReference reference, Kind kind, List<String> include)
      throws IOException {
    String commit =
        cache
            .commit(reference)
            .orElseThrow(
                () ->
                    HubErrors.of(
                        reference,
                        "not in the cache %s, and the hub is not asked while offline (HF_HUB_OFFLINE, --offline)"
                            .formatted(cache.root())));
    Set<String> files = cache.files(reference, commit);
    String place = "the copy in the cache (offline)";
    FileSelection selection = FileSelection.of(reference, place, kind, include, files);
    Path snapshot = cache.snapshot(reference, commit);
    if (selection.index().isPresent()) {
      String index = selection.index().get();
      ShardIndex.shards(reference, place, index, snapshot.resolve(index), files);
    }
    return selection.gguf().map(snapshot::resolve).orElse(snapshot);
  }

  private Path fromHub(HubReference reference, Kind kind, List<String> include)
      throws IOException, InterruptedException {
    Listing listing =
        retries.run(
            reference, "list of files", offlineHint(reference), backoff -> client.list(reference));
    String place = "the repository";
    FileSelection selection = FileSelection.of(reference, place, kind, include, listing.paths());
    List<RemoteFile> files = new ArrayList<>();
    for (String path : selection.files()) {
      files.add(describe(reference, listing, path));
    }
    FileDownloads downloads = new FileDownloads(client, cache, retries, listener, runtime.space());
    if (selection.index().isPresent()) {
      RemoteFile index =
          files.stream().filter(f -> f.path().equals(selection.index().get())).findFirst().get();
      downloads.run(reference, listing.commit(), List.of(index));
      Path content = cache.blob(reference, index.checksum());
      for (String shard :
          ShardIndex.shards(reference, place, index.path(), content, listing.paths())) {
        files.add(describe(reference, listing, shard));
      }
    }
    listener.planned(
        reference, listing.commit(), files.size(), downloads.missing(reference, files));
    downloads.run(reference, listing.commit(), files);
    for (RemoteFile file : files) {
      cache.link(reference, listing.commit(), file);
    }
    cache.remember(reference, listing.commit());
    Path snapshot = cache.snapshot(reference, listing.commit());
    return selection.gguf().map(snapshot::resolve).orElse(snapshot);
  }

  private RemoteFile describe(HubReference reference, Listing listing, String path)
      throws InterruptedException {
    Optional<RemoteFile> known = listing.files().get(path);
    return known.isPresent()
        ? known.get()
        : retries.run(
            reference, path, "", backoff -> client.describe(reference, listing.commit(), path));
  }

  private String offlineHint(HubReference reference) throws IOException {
    return cache
        .commit(reference)
        .map(
            commit ->
                "; commit %s is in the cache, --offline (HF_HUB_OFFLINE=1) uses it"
                    .formatted(commit))
        .orElse("");
  }

  /** Ends requests that are still running. */
  @Override
  public void close() {
    client.close();
  }
}
