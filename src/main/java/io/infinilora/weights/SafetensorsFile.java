package io.infinilora.weights;

import com.fasterxml.jackson.databind.JsonNode;
import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
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
 * One safetensors file: eight bytes of header length, a JSON header, then the tensors without gaps.
 * Everything the header says is checked against the file before any of it is used.
 */
public final class SafetensorsFile implements TensorIndex {

  /** Longest header that is read, the same limit as the reference implementation's. */
  static final long MAX_HEADER_BYTES = 100_000_000;

  private static final ValueLayout.OfLong LENGTH =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final Map<String, DType> TYPES =
      Map.of("F32", DType.F32, "F16", DType.F16, "BF16", DType.BF16, "U8", DType.U8);

  /** A header entry; offsets count from the start of the file. */
  private record Entry(String name, String type, long[] shape, long begin, long end) {}

  private final MappedFile file;
  private final Map<String, Entry> entries = new LinkedHashMap<>();

  private SafetensorsFile(MappedFile file) {
    this.file = file;
  }

  /**
   * Maps a file and checks its header.
   *
   * @throws InfiniLoraException with {@code code}, naming file and tensor
   */
  public static SafetensorsFile open(Path path, ErrorCode code, Arena arena) {
    SafetensorsFile result = new SafetensorsFile(MappedFile.map(path, code, arena));
    result.readHeader();
    return result;
  }

  private void readHeader() {
    if (file.size() < 8) {
      throw file.fault("truncated: " + file.size() + " bytes do not hold a safetensors header");
    }
    long length = file.bytes().get(LENGTH, 0);
    if (length < 2 || length > file.size() - 8) {
      throw file.fault(
          "header of %s bytes does not fit a file of %d"
              .formatted(Long.toUnsignedString(length), file.size()));
    }
    if (length > MAX_HEADER_BYTES) {
      throw file.fault("header of " + length + " bytes is beyond the limit " + MAX_HEADER_BYTES);
    }
    byte[] json = file.bytes().asSlice(8, length).toArray(ValueLayout.JAVA_BYTE);
    JsonFields header = JsonFields.parse(json, file.path() + ": header", file.code());
    for (Map.Entry<String, JsonNode> field : header.tree().properties()) {
      if (!field.getKey().equals("__metadata__")) {
        entries.put(field.getKey(), entry(header, field.getKey(), 8 + length));
      }
    }
    checkCoverage(8 + length);
  }

  private Entry entry(JsonFields header, String name, long dataStart) {
    JsonFields fields =
        header.object(name).orElseThrow(() -> tensorFault(name, "is described by null"));
    String type = fields.text("dtype").orElseThrow(() -> tensorFault(name, "has no dtype"));
    long[] shape = sizes(fields, name, "shape");
    long[] offsets = sizes(fields, name, "data_offsets");
    long dataBytes = file.size() - dataStart;
    if (offsets.length != 2 || offsets[0] > offsets[1] || offsets[1] > dataBytes) {
      throw tensorFault(
          name,
          "lies at data_offsets %s, but the file holds %d bytes of data"
              .formatted(Arrays.toString(offsets), dataBytes));
    }
    DType known = TYPES.get(type);
    if (known != null) {
      checkBytes(name, known, shape, offsets[1] - offsets[0]);
    }
    return new Entry(name, type, shape, dataStart + offsets[0], dataStart + offsets[1]);
  }

  private void checkBytes(String name, DType type, long[] shape, long actual) {
    long needed;
    try {
      long elements = 1;
      for (long size : shape) {
        elements = Math.multiplyExact(elements, size);
      }
      needed = type.bytes(elements);
    } catch (ArithmeticException e) {
      throw tensorFault(name, "has the impossible shape " + Arrays.toString(shape));
    }
    if (needed != actual) {
      throw tensorFault(
          name,
          "has %d bytes, but %s %s needs %d"
              .formatted(actual, type, Arrays.toString(shape), needed));
    }
  }

  private long[] sizes(JsonFields fields, String name, String key) {
    JsonNode list = fields.raw(key);
    if (!list.isArray()) {
      throw tensorFault(name, "has no list " + key);
    }
    long[] result = new long[list.size()];
    for (int i = 0; i < result.length; i++) {
      JsonNode item = list.get(i);
      if (!item.isIntegralNumber() || !item.canConvertToLong() || item.longValue() < 0) {
        throw tensorFault(name, "has an impossible number in " + key);
      }
      result[i] = item.longValue();
    }
    return result;
  }

  /** Tensors follow each other without gap or overlap and end with the file. */
  private void checkCoverage(long dataStart) {
    List<Entry> inOrder = new ArrayList<>(entries.values());
    inOrder.sort(Comparator.comparingLong(Entry::begin).thenComparingLong(Entry::end));
    long end = dataStart;
    String previous = "the header";
    for (Entry entry : inOrder) {
      if (entry.begin() < end) {
        throw tensorFault(entry.name(), "overlaps " + previous);
      }
      if (entry.begin() > end) {
        throw tensorFault(
            entry.name(),
            "leaves a gap of %d bytes after %s".formatted(entry.begin() - end, previous));
      }
      end = entry.end();
      previous = entry.name();
    }
    if (end != file.size()) {
      throw file.fault(
          "%d bytes follow the last tensor (%s)".formatted(file.size() - end, previous));
    }
  }

  @Override
  public Set<String> names() {
    return Collections.unmodifiableSet(entries.keySet());
  }

  @Override
  public boolean supported(String name) {
    return TYPES.containsKey(entries.get(name).type());
  }

  @Override
  public TensorView view(String name) {
    Entry entry = entries.get(name);
    DType type = TYPES.get(entry.type());
    if (type == null || type == DType.U8) {
      throw tensorFault(name, "has dtype " + entry.type() + "; supported are F32, F16 and BF16");
    }
    if (entry.begin() % type.blockBytes() != 0) {
      throw tensorFault(
          name,
          "starts at byte %d, which is not aligned for %s; save the file again with a current writer"
              .formatted(entry.begin(), type));
    }
    return view(entry, type);
  }

  @Override
  public TensorView bytes(String name) {
    Entry entry = entries.get(name);
    if (TYPES.get(entry.type()) != DType.U8) {
      throw tensorFault(name, "has dtype " + entry.type() + ", but should be U8");
    }
    return view(entry, DType.U8);
  }

  private TensorView view(Entry entry, DType type) {
    MemorySegment data = file.bytes().asSlice(entry.begin(), entry.end() - entry.begin());
    return new TensorView(
        entry.name(),
        type,
        entry.shape(),
        data,
        file.path().toString(),
        file.tensor(entry.name(), entry.begin()));
  }

  /** The mapped file. */
  MappedFile file() {
    return file;
  }

  @Override
  public List<MappedFile> files() {
    return List.of(file);
  }

  @Override
  public InfiniLoraException fault(String message) {
    return file.fault(message);
  }

  InfiniLoraException tensorFault(String name, String message) {
    return file.fault("tensor " + name + " " + message);
  }
}
