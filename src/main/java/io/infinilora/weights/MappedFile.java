package io.infinilora.weights;

import io.infinilora.core.ByteSource;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * A read-only memory mapping of a whole file, which can also be read. The file must not be changed
 * while it is mapped.
 *
 * @param path where it lies
 * @param code the kind of failure that a fault in this file is
 * @param bytes its contents
 * @param channel the open file
 */
record MappedFile(Path path, ErrorCode code, MemorySegment bytes, FileChannel channel) {

  /**
   * Maps a file for as long as {@code arena} lives.
   *
   * @throws InfiniLoraException with {@code code} if it cannot be read
   */
  static MappedFile map(Path path, ErrorCode code, Arena arena) {
    if (!Files.isRegularFile(path)) {
      throw new InfiniLoraException(code, path + ": no such file");
    }
    try {
      FileChannel channel = FileChannel.open(path, StandardOpenOption.READ);
      // There is no other way to tell an arena to close something with it.
      MemorySegment.NULL.reinterpret(arena, ignored -> close(channel));
      MemorySegment bytes = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
      return new MappedFile(path, code, bytes, channel);
    } catch (IOException e) {
      throw new InfiniLoraException(code, path + ": cannot be read: " + e.getMessage(), e);
    }
  }

  private static void close(FileChannel channel) {
    try {
      channel.close();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * The bytes of a tensor, to be read.
   *
   * @param begin its first byte in the file
   */
  ByteSource tensor(String name, long begin) {
    return (at, into) -> read(name, begin + at, into);
  }

  private void read(String tensor, long begin, MemorySegment into) {
    ByteBuffer buffer = into.asByteBuffer();
    try {
      while (buffer.hasRemaining()) {
        if (channel.read(buffer, begin + buffer.position()) < 0) {
          throw fault(
              "tensor %s: the file ends at byte %d, though it had %d when it was opened"
                  .formatted(tensor, channel.size(), size()));
        }
      }
    } catch (IOException e) {
      throw new InfiniLoraException(
          code, "%s: tensor %s: cannot be read: %s".formatted(path, tensor, e), e);
    }
  }

  /** Bytes of the file. */
  long size() {
    return bytes.byteSize();
  }

  /** An error about this file. */
  InfiniLoraException fault(String message) {
    return new InfiniLoraException(code, path + ": " + message);
  }
}
