package io.infinilora.weights;

import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A GGUF file, version 2 or 3: metadata, tensor descriptions, and the tensors at aligned offsets.
 * Everything the header says is checked against the file at open.
 */
final class GgufFile implements TensorIndex {

  /** "GGUF" read as a little-endian integer. */
  static final int MAGIC = 0x46554747;

  private static final int DEFAULT_ALIGNMENT = 32;
  private static final int MAX_ALIGNMENT = 1 << 20;
  private static final int MAX_DIMENSIONS = 4;
  private static final int MIN_PAIR_BYTES = 13; // key length, type, one byte of value
  private static final int MIN_TENSOR_BYTES = 32; // name length, one dimension, type, offset

  /** A tensor description; {@code offset} counts from the start of the data. */
  private record Entry(String name, DType type, long[] shape, long offset, long bytes) {}

  private final MappedFile file;
  private final GgufMetadata metadata;
  private final Map<String, Entry> entries = new LinkedHashMap<>();
  private int version;
  private long dataStart;

  private GgufFile(MappedFile file) {
    this.file = file;
    this.metadata = new GgufMetadata(file);
  }

  /**
   * Maps a file and checks its header.
   *
   * @throws InfiniLoraException BAD_MODEL_FILE naming file and tensor or metadata key
   */
  static GgufFile open(Path path, Arena arena) {
    GgufFile result = new GgufFile(MappedFile.map(path, ErrorCode.BAD_MODEL_FILE, arena));
    result.readHeader();
    return result;
  }

  private void readHeader() {
    GgufCursor cursor = new GgufCursor(file);
    if (cursor.int32() != MAGIC) {
      throw file.fault("not a GGUF file");
    }
    version = cursor.int32();
    if (version == Integer.reverseBytes(2) || version == Integer.reverseBytes(3)) {
      throw file.fault("big-endian GGUF files are not supported");
    }
    if (version != 2 && version != 3) {
      throw file.fault(
          "GGUF version %s is not supported, only 2 and 3"
              .formatted(Integer.toUnsignedString(version)));
    }
    long tensors = cursor.count("tensors", MIN_TENSOR_BYTES);
    long pairs = cursor.count("metadata pairs", MIN_PAIR_BYTES);
    for (long i = 0; i < pairs; i++) {
      cursor.reading("metadata pair " + (i + 1) + " of " + pairs);
      String key = cursor.name();
      cursor.reading("metadata key " + key);
      long start = cursor.position();
      Object value = cursor.value();
      metadata.put(key, value, file.bytes().asSlice(start, cursor.position() - start));
    }
    int alignment = alignment();
    for (long i = 0; i < tensors; i++) {
      cursor.reading("the description of tensor " + (i + 1) + " of " + tensors);
      Entry entry = readEntry(cursor, alignment);
      if (entries.putIfAbsent(entry.name(), entry) != null) {
        throw tensorFault(entry.name(), "occurs twice");
      }
    }
    dataStart = (cursor.position() + alignment - 1) / alignment * alignment;
    checkPlaces(alignment);
  }

  /** What the offsets of tensors are multiples of. */
  int alignment() {
    int alignment = metadata.integer("general.alignment", DEFAULT_ALIGNMENT);
    if (alignment < 8 || alignment > MAX_ALIGNMENT || Integer.bitCount(alignment) != 1) {
      throw metadata.bad("general.alignment", "is " + alignment + ", not a usable power of two");
    }
    return alignment;
  }

  private Entry readEntry(GgufCursor cursor, int alignment) {
    String name = cursor.name();
    cursor.reading("the description of tensor " + name);
    int dimensions = cursor.int32();
    if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
      throw tensorFault(name, "has " + Integer.toUnsignedString(dimensions) + " dimensions");
    }
    long[] shape = new long[dimensions];
    for (int i = dimensions - 1; i >= 0; i--) { // the file has the innermost first
      shape[i] = cursor.int64();
    }
    int typeId = cursor.int32();
    DType type =
        GgufTensorTypes.byId(typeId)
            .orElseThrow(
                () ->
                    tensorFault(
                        name,
                        "has the unsupported type %s; supported are %s"
                            .formatted(
                                GgufTensorTypes.nameOf(typeId), GgufTensorTypes.supported())));
    long offset = cursor.int64();
    if (offset < 0 || offset % alignment != 0) {
      throw tensorFault(
          name,
          "starts at offset %s, which is not a multiple of the alignment %d"
              .formatted(Long.toUnsignedString(offset), alignment));
    }
    return new Entry(name, type, shape, offset, bytes(name, type, shape));
  }

  private long bytes(String name, DType type, long[] shape) {
    long elements = 1;
    try {
      for (long size : shape) {
        if (size <= 0) {
          throw tensorFault(name, "has the impossible shape " + Arrays.toString(shape));
        }
        elements = Math.multiplyExact(elements, size);
      }
      if (shape[shape.length - 1] % type.blockElements() != 0) {
        throw tensorFault(
            name,
            "has rows of %d elements, which do not fill %s blocks of %d"
                .formatted(shape[shape.length - 1], type, type.blockElements()));
      }
      return type.bytes(elements);
    } catch (ArithmeticException e) {
      throw tensorFault(name, "has the impossible shape " + Arrays.toString(shape));
    }
  }

  /** Every tensor lies within the file, and no two share bytes. */
  private void checkPlaces(int alignment) {
    long available = Math.max(0, file.size() - dataStart);
    List<Entry> inOrder = new ArrayList<>(entries.values());
    inOrder.sort(Comparator.comparingLong(Entry::offset));
    long end = 0;
    String previous = "";
    for (Entry entry : inOrder) {
      if (entry.bytes() > available || entry.offset() > available - entry.bytes()) {
        throw tensorFault(
            entry.name(),
            "takes %d bytes at offset %d, but the file holds %d bytes of data: truncated?"
                .formatted(entry.bytes(), entry.offset(), available));
      }
      if (entry.offset() < end) {
        throw tensorFault(entry.name(), "overlaps tensor " + previous);
      }
      end = entry.offset() + entry.bytes();
      previous = entry.name();
    }
    if (available - end >= alignment) { // writers pad the last tensor, but no further
      throw file.fault("%d bytes follow the last tensor (%s)".formatted(available - end, previous));
    }
  }

  GgufMetadata metadata() {
    return metadata;
  }

  int version() {
    return version;
  }

  MappedFile file() {
    return file;
  }

  @Override
  public Set<String> names() {
    return Collections.unmodifiableSet(entries.keySet());
  }

  /** Always true: other types are refused at open. */
  @Override
  public boolean supported(String name) {
    return true;
  }

  @Override
  public TensorView view(String name) {
    Entry entry = entries.get(name);
    return new TensorView(
        name,
        entry.type(),
        entry.shape(),
        file.bytes().asSlice(dataStart + entry.offset(), entry.bytes()),
        file.path().toString(),
        file.tensor(name, dataStart + entry.offset()));
  }

  /** Always fails: there are no such tensors in GGUF files. */
  @Override
  public TensorView bytes(String name) {
    throw tensorFault(name, "is " + entries.get(name).type() + ", but should be bytes");
  }

  @Override
  public List<MappedFile> files() {
    return List.of(file);
  }

  @Override
  public InfiniLoraException fault(String message) {
    return file.fault(message);
  }

  private InfiniLoraException tensorFault(String name, String message) {
    return file.fault("tensor " + name + " " + message);
  }
}
