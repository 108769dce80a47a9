package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.ByteSource;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What is read from a file is what is mapped. */
class MappedFileTest {
  private static final int BYTES = 100_003;

  @TempDir Path folder;
  private Path path;

  @BeforeEach
  void write() throws IOException {
    byte[] content = new byte[BYTES];
    new Random(1).nextBytes(content);
    path = Files.write(folder.resolve("weights"), content);
  }

  @ParameterizedTest
  @CsvSource({"0, 0", "0, 1", "1, 4096", "4095, 4098", "0, 100003", "99999, 4"})
  void anyRangeCanBeRead(long at, long bytes) {
    try (Arena arena = Arena.ofConfined()) {
      MappedFile file = MappedFile.map(path, ErrorCode.BAD_MODEL_FILE, arena);
      check(file, at, bytes, arena);
    }
  }

  private static void check(MappedFile file, long at, long bytes, Arena arena) {
    MemorySegment into = arena.allocate(bytes);
    file.tensor("w", at / 2).read(at - at / 2, into);
    assertThat(into.mismatch(file.bytes().asSlice(at, bytes))).isEqualTo(-1);
  }

  @Test
  void readsThatGiveLessAreContinued() throws IOException {
    try (Arena arena = Arena.ofConfined();
        FileChannel slow = new TimidChannel(FileChannel.open(path, StandardOpenOption.READ))) {
      MappedFile mapped = MappedFile.map(path, ErrorCode.BAD_MODEL_FILE, arena);
      check(new MappedFile(path, ErrorCode.BAD_MODEL_FILE, mapped.bytes(), slow), 5, 50_000, arena);
    }
  }

  @Test
  void filesThatWereCutAreFaultsOfTheTensor() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      ByteSource tensor =
          MappedFile.map(path, ErrorCode.BAD_MODEL_FILE, arena).tensor("blk.w", 90_000);
      try (FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
        channel.truncate(95_000);
      }
      tensor.read(0, arena.allocate(5_000));
      Faults.assertFault(
          ErrorCode.BAD_MODEL_FILE,
          () -> tensor.read(0, arena.allocate(5_001)),
          path.toString(),
          "tensor blk.w: the file ends at byte 95000, though it had 100003");
    }
  }

  @Test
  void theFileIsClosedWithItsArena() {
    ByteSource tensor;
    MappedFile file;
    try (Arena arena = Arena.ofConfined()) {
      file = MappedFile.map(path, ErrorCode.BAD_ADAPTER, arena);
      tensor = file.tensor("w", 0);
    }
    assertThat(file.channel().isOpen()).isFalse();
    try (Arena arena = Arena.ofConfined()) {
      assertThatThrownBy(() -> tensor.read(0, arena.allocate(1)))
          .isInstanceOf(InfiniLoraException.class)
          .hasMessageStartingWith(path + ": tensor w: cannot be read: ");
    }
  }

  @Test
  void emptyFilesCanBeMapped() throws IOException {
    Path empty = Files.write(folder.resolve("empty"), new byte[0]);
    try (Arena arena = Arena.ofConfined()) {
      assertThat(MappedFile.map(empty, ErrorCode.BAD_MODEL_FILE, arena).size()).isZero();
    }
  }
}
