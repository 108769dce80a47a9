package io.infinilora.weights;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * A read-only memory mapping of a whole file. The file must not be changed while it is mapped.
 *
 * @param path where it lies
 * @param code the kind of failure that a fault in this file is
 * @param bytes its contents
 */
record MappedFile(Path path, ErrorCode code, MemorySegment bytes) {

  /**
   * Maps a file for as long as {@code arena} lives.
   *
   * @throws InfiniLoraException with {@code code} if it cannot be read
   */
  static MappedFile map(Path path, ErrorCode code, Arena arena) {
    if (!Files.isRegularFile(path)) {
      throw new InfiniLoraException(code, path + ": no such file");
    }
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
      MemorySegment bytes = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
      return new MappedFile(path, code, bytes);
    } catch (IOException e) {
      throw new InfiniLoraException(code, path + ": cannot be read: " + e.getMessage(), e);
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
