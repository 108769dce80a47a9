package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** gpt_oss as it is published: experts in tensors of blocks and tensors of scales. */
class GptOssMxfp4Test {

  @TempDir Path folder;

  private Checkpoint open(SafetensorsBuilder tensors) {
    tensors.write(folder.resolve("model.safetensors"));
    return Checkpoints.open(folder);
  }

  private void assertFault(SafetensorsBuilder tensors, String... parts) {
    Faults.assertFault(ErrorCode.BAD_MODEL_FILE, () -> open(tensors).close(), parts);
  }

  /** The four bits of element (i, j) as {@link DType#FP4} packs them. */
  private static int bits(WeightMatrix matrix, int i, int j) {
    long element = matrix.element(i) + j * matrix.colStride();
    int pair = matrix.tensor().data().get(ValueLayout.JAVA_BYTE, element / 2) & 0xff;
    return element % 2 == 0 ? pair & 15 : pair >> 4;
  }

  private static int scale(WeightMatrix matrix, int i, int j) {
    long element = matrix.element(i) + j * matrix.colStride();
    return matrix.scales().data().get(ValueLayout.JAVA_BYTE, element / 32) & 0xff;
  }

  /** Holds a matrix against bytes of blocks [experts, rows, in / 32, 16] and of scales. */
  private static void assertPacked(
      WeightMatrix matrix,
      byte[] blocks,
      byte[] scales,
      int rows,
      int expert,
      int first,
      int step) {
    assertThat(matrix.dtype()).isEqualTo(DType.FP4);
    assertThat(matrix.contiguous()).isTrue();
    int perRow = matrix.cols() / 32;
    for (int i = 0; i < matrix.rows(); i++) {
      int row = expert * rows + first + i * step;
      for (int j = 0; j < matrix.cols(); j++) {
        int block = row * perRow + j / 32;
        int pair = blocks[block * 16 + j % 32 / 2] & 0xff;
        assertThat(bits(matrix, i, j)).isEqualTo(j % 2 == 0 ? pair % 16 : pair / 16);
        assertThat(scale(matrix, i, j)).isEqualTo(scales[block] & 0xff);
      }
    }
  }

  @Test
  void findsBlocksAndScalesOfEveryExpert() {
    TinyGptOss.config(folder);
    byte[] gateUp = TinyGptOss.bytes(3 * 64 * 2 * 16, 7);
    byte[] gateUpScales = TinyGptOss.bytes(3 * 64 * 2, 11);
    byte[] down = TinyGptOss.bytes(3 * 64 * 16, 13);
    byte[] downScales = TinyGptOss.bytes(3 * 64, 17);
    try (Checkpoint checkpoint = open(TinyGptOss.tensors())) {
      assertThat(checkpoint.spec().mlp().moe().topK()).isEqualTo(2);
      assertThat(checkpoint.spec().attention().windows()).containsExactly(16);
      for (int e = 0; e < 3; e++) {
        WeightMatrix gate = checkpoint.matrix(Param.GATE, 0, e);
        assertThat(gate.rows()).isEqualTo(32);
        assertThat(gate.cols()).isEqualTo(64);
        assertPacked(gate, gateUp, gateUpScales, 64, e, 0, 2);
        assertPacked(checkpoint.matrix(Param.UP, 0, e), gateUp, gateUpScales, 64, e, 1, 2);
        WeightMatrix output = checkpoint.matrix(Param.DOWN, 0, e);
        assertThat(output.rows()).isEqualTo(64);
        assertThat(output.cols()).isEqualTo(32);
        assertPacked(output, down, downScales, 64, e, 0, 1);
      }
    }
  }

  @Test
  void refusesHalfOfThePair() {
    TinyGptOss.config(folder);
    String scales = TinyGptOss.GATE_UP + "_scales";
    String blocks = TinyGptOss.DOWN + "_blocks";
    assertFault(TinyGptOss.tensors().remove(scales), scales + " is missing", "model.safetensors");
    assertFault(TinyGptOss.tensors().remove(blocks), blocks + " is missing");
    assertFault(
        TinyGptOss.tensors().raw(scales, "U8", new byte[3 * 64], 3, 64, 1),
        scales,
        "[3, 64, 1]",
        "[3, 64, 2]");
    assertFault(
        TinyGptOss.tensors().raw(blocks, "U8", new byte[2 * 64 * 16], 2, 64, 1, 16),
        blocks,
        "[2, 64, 1, 16]",
        "[3, 64, 1, 16]");
    assertFault(TinyGptOss.tensors().filled(scales, 1, 3, 64, 2), scales, "F32", "U8");
    assertFault(
        TinyGptOss.tensors().raw(TinyGptOss.MLP + "more", "U8", new byte[4], 4),
        TinyGptOss.MLP + "more is no parameter of this gpt_oss model of 1 layers and 3 experts");
  }

  @Test
  void theConfigurationSaysWhetherThereAreBlocks() {
    TinyGptOss.config(folder);
    Path config = folder.resolve("config.json");
    TinyModel.edit(config, c -> c.remove("quantization_config"));
    assertFault(TinyGptOss.tensors(), TinyGptOss.GATE_UP + " is missing");
    TinyModel.set(config, "quantization_config", "{\"quant_method\":\"gptq\"}");
    assertFault(TinyGptOss.tensors(), "quantization_config is set", "gpt_oss, except mxfp4");
    TinyModel.set(config, "quantization_config", "{\"quant_method\":\"mxfp4\"}");
    TinyModel.set(config, "intermediate_size", "36");
    assertFault(TinyGptOss.tensors(), TinyGptOss.GATE_UP + "_blocks", "[3, 72, 2, 16]");
  }

  @Test
  void blocksNeedWholeRows() {
    TinyModel.copy("gpt_oss", folder);
    TinyModel.set(
        folder.resolve("config.json"), "quantization_config", "{\"quant_method\":\"mxfp4\"}");
    Faults.assertFault(
        ErrorCode.BAD_MODEL_FILE,
        () -> Checkpoints.open(folder),
        "model.layers.0.mlp.experts.gate_up_proj_blocks",
        "rows of 48 weights do not fill blocks of 32");
  }

  @Test
  void onlyGptOssMayBeQuantised() {
    TinyModel.copy("mixtral", folder);
    TinyModel.set(
        folder.resolve("config.json"), "quantization_config", "{\"quant_method\":\"mxfp4\"}");
    Faults.assertFault(
        ErrorCode.BAD_MODEL_FILE,
        () -> Checkpoints.open(folder),
        "quantization_config is set",
        "not supported for mixtral");
  }

  @Test
  void bytesAreNoWeightsElsewhere() {
    TinyModel.change(
        "llama",
        folder,
        t -> t.raw("model.layers.0.self_attn.o_proj.weight", "U8", new byte[64 * 64], 64, 64));
    Faults.assertFault(
        ErrorCode.BAD_MODEL_FILE,
        () -> Checkpoints.open(folder),
        "model.layers.0.self_attn.o_proj.weight has dtype U8; supported are F32, F16 and BF16");
  }
}
