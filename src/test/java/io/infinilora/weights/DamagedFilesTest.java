package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.WeightMatrix;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Small sound files with bytes changed or cut off at fixed places: each either opens and gives all
 * of its parameters, or fails with a coded error; nothing else is thrown.
 */
class DamagedFilesTest {

  private static final byte[] FLIPS = {0x01, 0x10, (byte) 0x80, (byte) 0xff};

  /** Every byte is damaged up to here, where lengths and counts lie, then one in STRIDE. */
  private static final int DENSE = 64;

  private static final int STRIDE = 5;

  @TempDir Path folder;
  private int opened;
  private int refused;

  private interface Opener {
    void open() throws IOException;
  }

  private void attempt(byte[] bytes, Path file, ErrorCode code, Opener opener) throws IOException {
    Files.write(file, bytes);
    try {
      opener.open();
      opened++;
    } catch (InfiniLoraException e) {
      // A damaged architecture's name is that of one nobody knows.
      assertThat(e.code()).isIn(code, ErrorCode.UNSUPPORTED_MODEL);
      assertThat(e).hasMessageContaining(folder.toString());
      refused++;
    }
  }

  /** Damages bytes of the first {@code reach}, one by one, then cuts the file at some lengths. */
  private void damage(Path file, int reach, ErrorCode code, Opener opener) throws IOException {
    byte[] sound = Files.readAllBytes(file);
    attempt(sound, file, code, opener);
    assertThat(opened).as("the sound file opens").isEqualTo(1);
    int end = Math.min(reach, sound.length);
    for (int at = 0, turn = 0; at < end; at += at < DENSE ? 1 : STRIDE, turn++) {
      byte[] damaged = sound.clone();
      damaged[at] ^= FLIPS[turn % FLIPS.length];
      attempt(damaged, file, code, opener);
    }
    for (int length = 0; length < sound.length; length += Math.max(1, sound.length / 60)) {
      attempt(Arrays.copyOf(sound, length), file, code, opener);
    }
    Files.write(file, sound);
    assertThat(opened).isGreaterThan(1);
    assertThat(refused).isGreaterThan(60);
  }

  private static void readAll(Path path) {
    try (Checkpoint checkpoint = Checkpoints.open(path)) {
      ModelSpec spec = checkpoint.spec();
      for (int layer = 0; layer < spec.layers(); layer++) {
        for (Param param : List.of(Param.Q, Param.K, Param.V, Param.O)) {
          readAll(checkpoint.matrix(param, layer));
        }
        if (spec.mlp().moe() == null) {
          readAll(checkpoint.matrix(Param.DOWN, layer));
        } else {
          for (int expert = 0; expert < spec.mlp().moe().experts(); expert++) {
            readAll(checkpoint.matrix(Param.GATE, layer, expert));
            readAll(checkpoint.matrix(Param.DOWN, layer, expert));
          }
        }
      }
      spec.rope().inverseFrequencies(spec.attention().headDim());
    }
  }

  /** The first and the last row lie within the tensor. */
  private static void readAll(WeightMatrix matrix) {
    long last = matrix.element(matrix.rows() - 1) + (matrix.cols() - 1) * matrix.colStride();
    assertThat(last).isLessThan(matrix.tensor().elements());
    assertThat(matrix.tensor().data().byteSize())
        .isEqualTo(matrix.dtype().bytes(matrix.tensor().elements()));
  }

  @BeforeEach
  void reset() {
    opened = 0;
    refused = 0;
  }

  @Test
  void gguf() throws IOException {
    Path file = folder.resolve("m.gguf");
    byte[] sound =
        TinyGguf.of("llama").floats("rope_freqs.weight", new long[] {4}, 1, 1, 2, 8).build();
    Files.write(file, sound);
    int header = sound.length - 4 * (6 * 16 + 16 * 3 + 16 * 16 * 2 + 8 * 16 * 2 + 32 * 16 * 3);
    damage(file, header, ErrorCode.BAD_MODEL_FILE, () -> readAll(file));
  }

  @Test
  void safetensors() throws IOException {
    TinyModel.copy("qwen2", folder);
    damage(
        folder.resolve("model.safetensors"), 2700, ErrorCode.BAD_MODEL_FILE, () -> readAll(folder));
  }

  @Test
  void fusedExperts() throws IOException {
    TinyGptOss.config(folder);
    Path file = TinyGptOss.tensors().write(folder.resolve("model.safetensors"));
    damage(file, 2400, ErrorCode.BAD_MODEL_FILE, () -> readAll(folder));
    reset();
    damage(folder.resolve("config.json"), 900, ErrorCode.BAD_MODEL_FILE, () -> readAll(folder));
  }

  @Test
  void modelConfiguration() throws IOException {
    TinyModel.copy("qwen3", folder);
    damage(folder.resolve("config.json"), 2000, ErrorCode.BAD_MODEL_FILE, () -> readAll(folder));
  }

  @Test
  void adapter() throws IOException {
    TinyModel.copyAdapter("llama", "a2", folder);
    ModelSpec spec;
    try (Checkpoint checkpoint = Checkpoints.open(TinyModel.FIXTURES.resolve("llama"))) {
      spec = checkpoint.spec();
    }
    Opener opener = () -> PeftAdapter.open(folder, spec).close();
    damage(folder.resolve("adapter_model.safetensors"), 1200, ErrorCode.BAD_ADAPTER, opener);
    reset();
    damage(folder.resolve("adapter_config.json"), 2000, ErrorCode.BAD_ADAPTER, opener);
  }
}
