package io.infinilora.weights.hub;

import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Downloads one file into the cache: goes on where an earlier try stopped, and gives the blob its
 * name only when its checksum is right. For one use by one thread.
 */
final class BlobDownload {
  /** Progress that makes further failures forgivable. */
  private static final long PROGRESS_BYTES = 1 << 20;

  private static final Pattern CONTENT_RANGE =
      Pattern.compile("bytes (\\d{1,18})-\\d+/(\\d{1,18}|\\*)");

  private final HubClient client;
  private final HubCache cache;
  private final HubListener listener;
  private final HubReference reference;
  private final String commit;
  private final RemoteFile file;

  /** Whether the beginning came with another answer than the rest. */
  private boolean pieced;

  private boolean startedOver;
  private long highest;

  BlobDownload(
      HubClient client,
      HubCache cache,
      HubListener listener,
      HubReference reference,
      String commit,
      RemoteFile file) {
    this.client = client;
    this.cache = cache;
    this.listener = listener;
    this.reference = reference;
    this.commit = commit;
    this.file = file;
  }

  /**
   * Downloads, unless the blob is there or another process makes it meanwhile.
   *
   * @throws InfiniLoraException DOWNLOAD_FAILED naming repository and file
   * @throws InterruptedException if cancelled; what has been downloaded stays
   */
  void run(Retries retries) throws InterruptedException {
    Path lockFile = cache.lock(reference, file.checksum());
    try (BlobLock _ =
        BlobLock.take(
            lockFile,
            () ->
                listener.note(
                    "%s: waiting for another download of %s".formatted(reference, file.path())))) {
      if (cache.holds(reference, file)) {
        return;
      }
      try (PartialBlob partial = open()) {
        download(partial, retries);
      }
    } catch (IOException e) {
      throw local(e, lockFile);
    }
  }

  private PartialBlob open() throws IOException {
    return new PartialBlob(
        cache.partial(reference, file.checksum()),
        cache.partialEtag(reference, file.checksum()),
        file);
  }

  private void download(PartialBlob partial, Retries retries)
      throws IOException, InterruptedException {
    highest = partial.length();
    pieced = partial.length() > 0;
    try {
      retries.run(
          reference,
          file.path(),
          "; what has been downloaded is kept, and the next try goes on from there",
          backoff -> {
            receive(partial, backoff);
            return null;
          });
      partial.moveTo(cache.blob(reference, file.checksum()));
    } catch (UncheckedIOException e) {
      throw local(e.getCause(), partial.path());
    }
    listener.completed(file.path(), file.size());
  }

  private void receive(PartialBlob partial, Backoff backoff)
      throws IOException, InterruptedException {
    // A complete partial file is left by a process that ended just before the rename.
    if (partial.length() < file.size() || file.size() == 0) {
      long offset = partial.length();
      Optional<String> etag = locally(partial::etag);
      try (HubResponse response = client.open(reference, commit, file, offset, etag)) {
        begin(partial, response, offset, etag);
        readAll(partial, response.body(), backoff);
      }
    }
    if (partial.length() < file.size()) {
      throw new IOException(
          "the connection ended after %d of %d bytes".formatted(partial.length(), file.size()));
    }
    verify(partial);
  }

  /** Finds out where the content that follows belongs. */
  private void begin(
      PartialBlob partial, HubResponse response, long offset, Optional<String> wantedEtag)
      throws IOException {
    Optional<String> etag = response.headers().firstValue("ETag");
    if (response.status() == 206) {
      boolean changed = wantedEtag.isPresent() && etag.isPresent() && !wantedEtag.equals(etag);
      if (changed || !continues(response, offset)) {
        restart(partial, Optional.empty());
        throw new IOException("the server sent another part than asked for; starting over");
      }
      pieced = true;
      return;
    }
    if (response.status() != 200) {
      restart(partial, Optional.empty());
      throw new IOException("answered with HTTP %d; starting over".formatted(response.status()));
    }
    restart(partial, etag.filter(text -> text.startsWith("\"")));
    long announced = response.headers().firstValueAsLong("Content-Length").orElse(file.size());
    if (announced != file.size()) {
      throw discard(
          partial,
          "the server announces %d bytes, the repository %d".formatted(announced, file.size()));
    }
  }

  private boolean continues(HubResponse response, long offset) {
    Matcher range =
        CONTENT_RANGE.matcher(response.headers().firstValue("Content-Range").orElse(""));
    return range.matches()
        && Long.parseLong(range.group(1)) == offset
        && (range.group(2).equals("*") || Long.parseLong(range.group(2)) == file.size());
  }

  private void readAll(PartialBlob partial, Body body, Backoff backoff)
      throws IOException, InterruptedException {
    for (List<ByteBuffer> piece = body.next(); !piece.isEmpty(); piece = body.next()) {
      for (ByteBuffer buffer : piece) {
        int bytes = buffer.remaining();
        if (bytes > file.size() - partial.length()) {
          throw discard(
              partial,
              "the server sends more than the %d bytes of the repository's list"
                  .formatted(file.size()));
        }
        locally(
            () -> {
              partial.append(buffer);
              return null;
            });
        listener.received(bytes);
      }
      if (partial.length() - highest >= PROGRESS_BYTES) {
        highest = partial.length();
        backoff.reset();
      }
    }
  }

  private void verify(PartialBlob partial) throws IOException {
    if (partial.isRight()) {
      return;
    }
    if (pieced && !startedOver) {
      startedOver = true;
      restart(partial, Optional.empty());
      throw new IOException("the parts do not make up the file (wrong checksum); starting over");
    }
    throw discard(
        partial,
        "wrong checksum: the content is not what the repository lists (%s)"
            .formatted(file.checksum().hex()));
  }

  private void restart(PartialBlob partial, Optional<String> etag) {
    listener.received(-partial.length());
    pieced = false;
    locally(
        () -> {
          partial.restart(etag);
          return null;
        });
  }

  private InfiniLoraException discard(PartialBlob partial, String message) {
    listener.received(-partial.length());
    locally(
        () -> {
          partial.delete();
          return null;
        });
    return HubErrors.of(reference, file.path() + ": " + message + "; the file was discarded");
  }

  /** A step that only the own file system can fail, so that it is not tried again. */
  private interface LocalStep<T> {
    T run() throws IOException;
  }

  private static <T> T locally(LocalStep<T> step) {
    try {
      return step.run();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private InfiniLoraException local(IOException e, Path path) throws InterruptedException {
    if (e instanceof ClosedByInterruptException || Thread.currentThread().isInterrupted()) {
      throw new InterruptedException();
    }
    return HubErrors.of(
        reference, "%s: cannot write %s: %s".formatted(file.path(), path, e.getMessage()), e);
  }
}
