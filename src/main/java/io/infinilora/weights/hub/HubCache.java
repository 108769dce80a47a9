package io.infinilora.weights.hub;

import io.infinilora.core.HubReference;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import java.util.stream.Stream;

/**
 * A directory in the layout that Hugging Face's tools use and document:
 *
 * <pre>
 *   models--ORGANISATION--NAME/blobs/CHECKSUM             content
 *   models--ORGANISATION--NAME/refs/REVISION              the commit that a branch or tag meant last
 *   models--ORGANISATION--NAME/snapshots/COMMIT/FILE      relative link to the blob
 *   .locks/models--ORGANISATION--NAME/CHECKSUM.lock
 * </pre>
 *
 * Partial files have a name of their own: those of other tools are under other tools' locks.
 */
final class HubCache {
  private static final String PARTIAL = ".infinilora.incomplete";

  private final Path root;

  HubCache(Path root) {
    this.root = root;
  }

  /** The directory itself. */
  Path root() {
    return root;
  }

  /** Where a blob lies once it is complete and checked. */
  Path blob(HubReference reference, Checksum checksum) {
    return blobs(reference).resolve(checksum.hex());
  }

  /** Where a blob grows. */
  Path partial(HubReference reference, Checksum checksum) {
    return blobs(reference).resolve(checksum.hex() + PARTIAL);
  }

  /** Where the ETag is kept under which a partial blob was sent. */
  Path partialEtag(HubReference reference, Checksum checksum) {
    return blobs(reference).resolve(checksum.hex() + PARTIAL + ".etag");
  }

  /** Lock file of a blob. */
  Path lock(HubReference reference, Checksum checksum) {
    return root.resolve(".locks").resolve(folder(reference)).resolve(checksum.hex() + ".lock");
  }

  /** Directory of the files of a commit. */
  Path snapshot(HubReference reference, String commit) {
    return repo(reference).resolve("snapshots").resolve(commit);
  }

  /** Whether a file's content is there. Blobs were checked before they got their names. */
  boolean holds(HubReference reference, RemoteFile file) throws IOException {
    Path blob = blob(reference, file.checksum());
    return Files.isRegularFile(blob) && Files.size(blob) == file.size();
  }

  /** How much of a file is there. */
  long present(HubReference reference, RemoteFile file) throws IOException {
    if (holds(reference, file)) {
      return file.size();
    }
    Path partial = partial(reference, file.checksum());
    return Files.isRegularFile(partial) ? Math.min(file.size(), Files.size(partial)) : 0;
  }

  /** Puts a file into the snapshot of a commit. */
  void link(HubReference reference, String commit, RemoteFile file) throws IOException {
    Path link = snapshot(reference, commit).resolve(file.path());
    Path blob = blob(reference, file.checksum());
    if (Files.exists(link) && Files.isSameFile(link, blob)) {
      return;
    }
    Files.createDirectories(link.getParent());
    // A rename, so that whoever looks finds the old file or the new one.
    Path fresh = link.resolveSibling("." + UUID.randomUUID() + ".link");
    Files.createSymbolicLink(fresh, link.getParent().relativize(blob));
    Files.move(fresh, link, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
  }

  /** Remembers what a branch or tag means, for work offline. */
  void remember(HubReference reference, String commit) throws IOException {
    if (reference.isPinned()) {
      return;
    }
    Path ref = ref(reference);
    Files.createDirectories(ref.getParent());
    Path fresh = ref.resolveSibling("." + UUID.randomUUID() + ".ref");
    Files.writeString(fresh, commit);
    Files.move(fresh, ref, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
  }

  /** The commit that is in the cache for a reference. */
  Optional<String> commit(HubReference reference) throws IOException {
    String commit = reference.revision();
    if (!reference.isPinned()) {
      Path ref = ref(reference);
      if (!Files.isRegularFile(ref)) {
        return Optional.empty();
      }
      commit = Files.readString(ref).strip();
    }
    return Optional.of(commit)
        .filter(HubReference::isCommit)
        .filter(known -> Files.isDirectory(snapshot(reference, known)));
  }

  /** The files of a snapshot whose content is there, by their paths in the repository. */
  Set<String> files(HubReference reference, String commit) throws IOException {
    Path snapshot = snapshot(reference, commit);
    Set<String> files = new TreeSet<>();
    try (Stream<Path> paths = Files.walk(snapshot)) {
      paths
          .filter(path -> !Files.isDirectory(path, LinkOption.NOFOLLOW_LINKS))
          .filter(Files::isRegularFile)
          .forEach(path -> files.add(snapshot.relativize(path).toString()));
    }
    return files;
  }

  private Path blobs(HubReference reference) {
    return repo(reference).resolve("blobs");
  }

  private Path ref(HubReference reference) {
    return repo(reference).resolve("refs").resolve(reference.revision());
  }

  private Path repo(HubReference reference) {
    return root.resolve(folder(reference));
  }

  private static String folder(HubReference reference) {
    return "models--" + reference.repo().replace("/", "--");
  }
}
