package io.infinilora.weights.hub;

import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import java.io.IOException;
import java.nio.file.Files;
import java.util.List;
import java.util.concurrent.CompletionService;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorCompletionService;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Downloads the files of a commit, several at a time. The first failure ends the others. */
final class FileDownloads {
  private static final int PARALLEL = 4;

  private final HubClient client;
  private final HubCache cache;
  private final Retries retries;
  private final HubListener listener;
  private final HubRuntime.Space space;

  FileDownloads(
      HubClient client,
      HubCache cache,
      Retries retries,
      HubListener listener,
      HubRuntime.Space space) {
    this.client = client;
    this.cache = cache;
    this.retries = retries;
    this.listener = listener;
    this.space = space;
  }

  /** Bytes of the files that are not in the cache. */
  long missing(HubReference reference, List<RemoteFile> files) throws IOException {
    long missing = 0;
    for (RemoteFile file : files) {
      missing += file.size() - cache.present(reference, file);
    }
    return missing;
  }

  /**
   * Downloads what is missing.
   *
   * @throws InfiniLoraException DOWNLOAD_FAILED with the first failure
   * @throws InterruptedException if this thread is interrupted; what has been downloaded stays
   */
  void run(HubReference reference, String commit, List<RemoteFile> files)
      throws IOException, InterruptedException {
    checkSpace(reference, missing(reference, files));
    ExecutorService threads =
        Executors.newFixedThreadPool(
            PARALLEL, Thread.ofPlatform().daemon().name("hub-download-", 0).factory());
    try {
      CompletionService<Void> running = new ExecutorCompletionService<>(threads);
      for (RemoteFile file : files) {
        running.submit(
            () -> {
              new BlobDownload(client, cache, listener, reference, commit, file).run(retries);
              return null;
            });
      }
      for (int i = 0; i < files.size(); i++) {
        running.take().get();
      }
    } catch (ExecutionException e) {
      throw e.getCause() instanceof InfiniLoraException known
          ? known
          : HubErrors.of(reference, "download failed: " + e.getCause(), e.getCause());
    } finally {
      threads.shutdownNow();
      // Their partial files are complete to the last byte once they have ended.
      threads.close();
    }
  }

  private void checkSpace(HubReference reference, long needed) throws IOException {
    Files.createDirectories(cache.root());
    long free = space.free(cache.root());
    if (needed > free) {
      throw HubErrors.of(
          reference,
          "%d bytes are to be downloaded, but %s has room for %d"
              .formatted(needed, cache.root(), free));
    }
  }
}
