package io.infinilora.weights;

import io.infinilora.core.DType;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Writes GGUF files for tests, sound ones and, on request, ones that lie about themselves. */
final class GgufBuilder {

  /** One tensor; shape outermost first. A null offset means the next free place. */
  record Tensor(String name, int type, long[] shape, byte[] data, Long offset) {}

  private final Map<String, byte[]> pairs = new LinkedHashMap<>();
  private final List<Tensor> tensors = new ArrayList<>();
  private int version = 3;
  private int magic = 0x46554747;
  private Long tensorCount;
  private Long pairCount;
  private int alignment = 32;

  GgufBuilder magic(int value) {
    magic = value;
    return this;
  }

  GgufBuilder version(int value) {
    version = value;
    return this;
  }

  GgufBuilder tensorCount(long value) {
    tensorCount = value;
    return this;
  }

  GgufBuilder pairCount(long value) {
    pairCount = value;
    return this;
  }

  GgufBuilder alignment(int value) {
    alignment = value;
    return uint32("general.alignment", value);
  }

  /** A pair whose type and value are given as bytes. */
  GgufBuilder raw(String key, GgufValueType type, byte[] value) {
    pairs.put(key, join(int32(type.id()), value));
    return this;
  }

  GgufBuilder remove(String key) {
    pairs.remove(key);
    return this;
  }

  GgufBuilder text(String key, String value) {
    return raw(key, GgufValueType.STRING, string(value));
  }

  GgufBuilder uint32(String key, int value) {
    return raw(key, GgufValueType.UINT32, int32(value));
  }

  GgufBuilder float32(String key, float value) {
    return raw(key, GgufValueType.FLOAT32, int32(Float.floatToRawIntBits(value)));
  }

  GgufBuilder bool(String key, boolean value) {
    return raw(key, GgufValueType.BOOL, new byte[] {(byte) (value ? 1 : 0)});
  }

  GgufBuilder texts(String key, List<String> values) {
    byte[] items = new byte[0];
    for (String value : values) {
      items = join(items, string(value));
    }
    return raw(key, GgufValueType.ARRAY, array(GgufValueType.STRING, values.size(), items));
  }

  GgufBuilder int32s(String key, int... values) {
    byte[] items = new byte[0];
    for (int value : values) {
      items = join(items, int32(value));
    }
    return raw(key, GgufValueType.ARRAY, array(GgufValueType.INT32, values.length, items));
  }

  /** An F32 tensor; without values it is filled with zeros. */
  GgufBuilder floats(String name, long[] shape, float... values) {
    ByteBuffer data =
        ByteBuffer.allocate(Math.toIntExact(4 * elements(shape))).order(ByteOrder.LITTLE_ENDIAN);
    for (float value : values) {
      data.putFloat(value);
    }
    return tensor(new Tensor(name, 0, shape, data.array(), null));
  }

  /** A tensor of zeros in any type. */
  GgufBuilder zeros(String name, int typeId, DType type, long... shape) {
    byte[] data = new byte[Math.toIntExact(type.bytes(elements(shape)))];
    return tensor(new Tensor(name, typeId, shape, data, null));
  }

  /** Adds a tensor, in the place of one with the same name if there is one. */
  GgufBuilder tensor(Tensor tensor) {
    for (int i = 0; i < tensors.size(); i++) {
      if (tensors.get(i).name().equals(tensor.name())) {
        tensors.set(i, tensor);
        return this;
      }
    }
    tensors.add(tensor);
    return this;
  }

  /** Adds a tensor, be there one with the same name. */
  GgufBuilder tensorAgain(Tensor tensor) {
    tensors.add(tensor);
    return this;
  }

  GgufBuilder removeTensor(String name) {
    tensors.removeIf(t -> t.name().equals(name));
    return this;
  }

  private static long elements(long[] shape) {
    long n = 1;
    for (long size : shape) {
      n *= size;
    }
    return n;
  }

  byte[] build() {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    out.writeBytes(int32(magic));
    out.writeBytes(int32(version));
    out.writeBytes(int64(tensorCount == null ? tensors.size() : tensorCount));
    out.writeBytes(int64(pairCount == null ? pairs.size() : pairCount));
    pairs.forEach(
        (key, value) -> {
          out.writeBytes(string(key));
          out.writeBytes(value);
        });
    ByteArrayOutputStream data = new ByteArrayOutputStream();
    for (Tensor tensor : tensors) {
      long offset = tensor.offset() == null ? data.size() : tensor.offset();
      out.writeBytes(string(tensor.name()));
      out.writeBytes(int32(tensor.shape().length));
      for (int i = tensor.shape().length - 1; i >= 0; i--) {
        out.writeBytes(int64(tensor.shape()[i]));
      }
      out.writeBytes(int32(tensor.type()));
      out.writeBytes(int64(offset));
      data.writeBytes(tensor.data());
      pad(data);
    }
    pad(out);
    out.writeBytes(data.toByteArray());
    return out.toByteArray();
  }

  Path write(Path file) {
    try {
      return Files.write(file, build());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private void pad(ByteArrayOutputStream out) {
    while (out.size() % alignment != 0) {
      out.write(0);
    }
  }

  static byte[] int32(int value) {
    return ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt(value).array();
  }

  static byte[] int64(long value) {
    return ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(value).array();
  }

  static byte[] string(String value) {
    byte[] text = value.getBytes(StandardCharsets.UTF_8);
    return join(int64(text.length), text);
  }

  static byte[] array(GgufValueType type, long count, byte[] items) {
    return join(int32(type.id()), int64(count), items);
  }

  static byte[] join(byte[]... parts) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    for (byte[] part : parts) {
      out.writeBytes(part);
    }
    return out.toByteArray();
  }
}
