package io.infinilora.backend.cpu;

import io.infinilora.backend.decode.QuantBlocks;
import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Turns the weights of a file into panels. Rows beyond the last stay zero. */
final class MatrixPacker {
  /** The largest of the 4-bit floats. */
  private static final float MOST_E2M1 = 6;

  private final WeightMatrix source;
  private final TensorView tensor;
  private final PackedFormat format;
  private final QuantBlocks blocks;

  /** Row of the source that is packed first. */
  private final int begin;

  private MatrixPacker(WeightMatrix source, int begin) {
    this.source = source;
    this.begin = begin;
    this.tensor = source.tensor();
    this.format = PackedFormat.of(tensor.dtype());
    this.blocks = tensor.dtype().quantised() ? new QuantBlocks(source) : null;
  }

  /** Bytes that the panels of a matrix take. */
  static long bytes(WeightMatrix source) {
    PackedFormat format = PackedFormat.of(source.tensor().dtype());
    return PackedMatrix.panels(source.rows()) * PackedMatrix.panelBytes(format, source.cols());
  }

  /**
   * Packs a matrix.
   *
   * @param address zeroed memory of {@link #bytes}
   * @param bias address of the padded bias
   * @throws InfiniLoraException BAD_MODEL_FILE naming the tensor if the file cannot be read any
   *     more
   */
  static PackedMatrix pack(WeightMatrix source, long address, long bias) {
    PackedFormat format = PackedFormat.of(source.dtype());
    PackedMatrix packed =
        new PackedMatrix(format, source.rows(), source.cols(), address, bias, bytes(source));
    try {
      new MatrixPacker(source, 0).pack(packed, address);
    } catch (InternalError e) {
      throw source.tensor().unreadable(e);
    }
    return packed;
  }

  /**
   * Packs some rows.
   *
   * @param begin the first of them
   * @param piece a matrix of these rows, wherever it is
   * @param address zeroed memory for its panels
   */
  static void pack(WeightMatrix source, int begin, PackedMatrix piece, long address) {
    new MatrixPacker(source, begin).pack(piece, address);
  }

  private void pack(PackedMatrix piece, long address) {
    int rows = piece.out();
    long panelBytes = PackedMatrix.panelBytes(format, source.cols());
    if (format.quantBits() > 0) {
      for (int row = 0; row < rows; row++) {
        long block = source.element(begin + row) / tensor.dtype().blockElements();
        packBlocks(lane(address, panelBytes, row), block);
      }
    } else if (source.rowStride() < source.colStride()) {
      // Transposed: neighbours in the file are lanes of a panel.
      for (int first = 0; first < rows; first += TileKernels.PANEL) {
        long lane = lane(address, panelBytes, first);
        int n = Math.min(TileKernels.PANEL, rows - first);
        for (int k = 0; k < source.cols(); k++) {
          for (int i = 0; i < n; i++) {
            long row = source.element(begin + first + i);
            packElement(lane + 4L * i, k, row + k * source.colStride());
          }
        }
      }
    } else {
      for (int row = 0; row < rows; row++) {
        long lane = lane(address, panelBytes, row);
        long from = source.element(begin + row);
        for (int k = 0; k < source.cols(); k++) {
          packElement(lane, k, from + k * source.colStride());
        }
      }
    }
  }

  /** Where the words of a row begin. */
  private static long lane(long address, long panelBytes, int row) {
    return address + row / TileKernels.PANEL * panelBytes + row % TileKernels.PANEL * 4L;
  }

  private void packElement(long lane, int k, long element) {
    MemorySegment data = tensor.data();
    if (format == PackedFormat.F32) {
      Memory.set(
          lane + k * TileKernels.PANEL_BYTES,
          checkFinite(data.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * element)));
      return;
    }
    short bits = data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * element);
    if (format == PackedFormat.F16) {
      // The kernels' conversion of float16 handles finite values only.
      checkFinite(Float.float16ToFloat(bits));
    }
    Memory.ALL.set(
        ValueLayout.JAVA_SHORT_UNALIGNED,
        lane + (k >> 1) * TileKernels.PANEL_BYTES + (k & 1) * 2,
        bits);
  }

  private void packBlocks(long lane, long from) {
    DType dtype = tensor.dtype();
    int group = QuantBlocks.group(dtype);
    long target = lane;
    long block = from;
    int groups = blocks.scales().length;
    for (int at = 0; at < source.cols(); at += dtype.blockElements()) {
      blocks.read(block++);
      for (int g = 0; g < groups; g++) {
        packGroup(target, g, group);
        target += format.blockBytes();
      }
    }
  }

  private void packGroup(long target, int g, int group) {
    float scale = checkFinite(blocks.scales()[g]);
    float min = checkFinite(blocks.minima()[g]);
    int bits;
    int shift;
    switch (format) {
      case Q4_HALF -> {
        int low = Float.floatToFloat16(scale) & 0xFFFF;
        int high = Float.floatToFloat16(min) & 0xFFFF;
        if (Float.float16ToFloat((short) high) != min) {
          throw bad("has a scale of " + scale + ", which is too large");
        }
        setWord(target, 0, high << 16 | low);
        bits = 4;
        shift = 0;
      }
      case Q4_FLOAT -> {
        setWord(target, 0, Float.floatToRawIntBits(16 * scale));
        setWord(target, 1, Float.floatToRawIntBits(min - 16 * scale));
        bits = 4;
        shift = 0;
      }
      case Q8_32 -> {
        setWord(target, 0, Float.floatToRawIntBits(256 * scale));
        bits = 8;
        shift = 0;
      }
      case Q8_16 -> {
        // Six bits at the top of a byte: u = 4 q, so S is 256 / 4 scales.
        setWord(target, 0, Float.floatToRawIntBits(64 * scale));
        bits = 8;
        shift = 2;
      }
      case Q8_MIN -> {
        // Five bits at the top of a byte: u = 8 q, so S is 256 / 8 scales.
        setWord(target, 0, Float.floatToRawIntBits(32 * scale));
        setWord(target, 1, Float.floatToRawIntBits(min - 32 * scale));
        bits = 8;
        shift = 3;
      }
      case E2M1 -> {
        checkFinite(MOST_E2M1 * scale);
        setWord(target, 0, Float.floatToRawIntBits(scale));
        bits = 4;
        shift = 0;
      }
      default -> throw new IllegalStateException("no scales in " + format);
    }
    // Quants with a scale and a minimum: the first goes to the top of a mantissa, and each turn by
    // a
    // quant brings the next one there. Floats stay in the low bits, where they are an index.
    int turn = format == PackedFormat.E2M1 ? 0 : 23 - bits;
    int[] q = blocks.quants();
    int perWord = 32 / bits;
    for (int w = 0; w < format.words(); w++) {
      int word = 0;
      for (int i = 0; i < perWord; i++) {
        word |= q[g * group + w * perWord + i] << shift << (i * bits);
      }
      setWord(target, format.scaleWords() + w, Integer.rotateLeft(word, turn));
    }
  }

  private static void setWord(long lane, int word, int value) {
    Memory.ALL.set(ValueLayout.JAVA_INT_UNALIGNED, lane + word * TileKernels.PANEL_BYTES, value);
  }

  private float checkFinite(float value) {
    if (!Float.isFinite(value)) {
      throw bad("holds " + value);
    }
    return value;
  }

  private InfiniLoraException bad(String what) {
    return new InfiniLoraException(
        ErrorCode.BAD_MODEL_FILE,
        "%s: tensor %s %s".formatted(tensor.source(), tensor.name(), what));
  }
}
