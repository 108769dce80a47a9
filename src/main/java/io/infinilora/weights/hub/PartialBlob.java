package io.infinilora.weights.hub;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.util.Optional;

/**
 * A blob that is being downloaded, hashed as it grows. What is in the file is always a beginning of
 * the blob, so that a process may end at any time. Used by one thread, which holds the blob's lock.
 */
final class PartialBlob implements AutoCloseable {
  private static final int READ_BYTES = 1 << 20;

  private final Path path;
  private final Path etagPath;
  private final RemoteFile file;
  private final FileChannel channel;
  private MessageDigest digest;
  private long length;

  /**
   * Opens or creates the file and hashes what is there.
   *
   * @throws IOException if the file system fails
   */
  PartialBlob(Path path, Path etagPath, RemoteFile file) throws IOException {
    this.path = path;
    this.etagPath = etagPath;
    this.file = file;
    digest = file.checksum().start(file.size());
    Files.createDirectories(path.getParent());
    channel =
        FileChannel.open(
            path, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
    try {
      if (channel.size() > file.size()) {
        clear();
      } else {
        hashWhatIsThere();
      }
    } catch (IOException | RuntimeException e) {
      channel.close();
      throw e;
    }
  }

  private void hashWhatIsThere() throws IOException {
    ByteBuffer buffer = ByteBuffer.allocate(READ_BYTES);
    while (channel.read(buffer) >= 0) {
      length += buffer.flip().remaining();
      digest.update(buffer);
      buffer.clear();
    }
  }

  /** Bytes that are there. */
  long length() {
    return length;
  }

  /** Where it lies. */
  Path path() {
    return path;
  }

  /** The ETag under which the beginning was sent. */
  Optional<String> etag() throws IOException {
    return Files.isRegularFile(etagPath)
        ? Optional.of(Files.readString(etagPath)).filter(text -> text.matches("\"[!-~]*\""))
        : Optional.empty();
  }

  /** Forgets the content; what comes next is sent under {@code etag}. */
  void restart(Optional<String> etag) throws IOException {
    clear();
    if (etag.isPresent()) {
      Files.writeString(etagPath, etag.get());
    }
  }

  private void clear() throws IOException {
    channel.truncate(0);
    Files.deleteIfExists(etagPath);
    digest = file.checksum().start(file.size());
    length = 0;
  }

  /** Adds a piece. */
  void append(ByteBuffer piece) throws IOException {
    digest.update(piece.duplicate());
    while (piece.hasRemaining()) {
      length += channel.write(piece);
    }
  }

  /** Whether the content is the file's; to be asked once. */
  boolean isRight() {
    return length == file.size() && file.checksum().matches(digest);
  }

  /** Gives the complete file its name. */
  void moveTo(Path blob) throws IOException {
    channel.force(true);
    Files.move(path, blob, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    Files.deleteIfExists(etagPath);
  }

  /** Removes every trace. */
  void delete() throws IOException {
    Files.deleteIfExists(path);
    Files.deleteIfExists(etagPath);
  }

  @Override
  public void close() throws IOException {
    channel.close();
  }
}
