package io.infinilora.backend.cuda;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Builds and makes one kernel launch after another, without garbage. Belongs to a stream and to its
 * thread. Arguments come in the order of the kernel's parameters.
 *
 * <p>A launch is also mixed into the stream's signature of the step, by which a replay of a
 * recorded step is checked.
 */
final class Launch {
  private static final int MAX_ARGUMENTS = 48;
  private static final int ARGUMENT_BYTES = 128;

  /** Most blocks of a grid along y and z: CUDA's limit. Along x there may be 2^31 - 1. */
  static final int MAX_GRID = 65_535;

  // CUlaunchConfig.
  private static final int GRID = 0;
  private static final int BLOCK = 12;
  private static final int SHARED = 24;
  private static final int STREAM = 32;
  private static final int ATTRIBUTES = 40;
  private static final int ATTRIBUTE_COUNT = 48;
  private static final int CONFIG_BYTES = 56;

  // CUlaunchAttribute.
  private static final int ATTRIBUTE_BYTES = 72;
  private static final int ATTRIBUTE_VALUE = 8;
  private static final int CLUSTER_DIMENSION = 4;
  private static final int PROGRAMMATIC_STREAM_SERIALIZATION = 6;

  private final CudaStream stream;
  private final boolean programmatic;
  private final MemorySegment config;
  private final MemorySegment attributes;
  private final MemorySegment pointers;
  private final MemorySegment values;

  private Kernel kernel;
  private int arguments;
  private int attributeCount;

  /** Whether the next kernel must not start before the last has ended. */
  private boolean fenced;

  private long hash;

  Launch(CudaStream stream, Arena arena) {
    this.stream = stream;
    programmatic = stream.device().hopper();
    config = arena.allocate(CONFIG_BYTES, 8);
    attributes = arena.allocate(2L * ATTRIBUTE_BYTES, 8);
    pointers = arena.allocate(8L * MAX_ARGUMENTS, 8);
    values = arena.allocate((long) ARGUMENT_BYTES * MAX_ARGUMENTS, ARGUMENT_BYTES);
    for (int i = 0; i < MAX_ARGUMENTS; i++) {
      pointers.set(JAVA_LONG, 8L * i, values.address() + (long) ARGUMENT_BYTES * i);
    }
    config.set(JAVA_LONG, ATTRIBUTES, attributes.address());
  }

  Launch begin(Kernel next) {
    kernel = next;
    arguments = 0;
    attributeCount = 0;
    hash = next.handle();
    config.set(JAVA_LONG, STREAM, stream.handle());
    config.set(JAVA_INT, SHARED, 0);
    return this;
  }

  private long slot() {
    if (arguments == MAX_ARGUMENTS) {
      throw new IllegalStateException(kernel.name() + " takes too many arguments");
    }
    return (long) ARGUMENT_BYTES * arguments++;
  }

  private void mix(long value) {
    hash = Signature.mix(hash, value);
  }

  /** An address in device or pinned memory; 0 for none. */
  Launch pointer(long address) {
    return int64(address);
  }

  /** A matrix of either type: its address, its stride as int64, and 1 if it is float32. */
  Launch tensor(CudaTensor tensor) {
    return pointer(tensor.address()).int64(tensor.stride()).int32(tensor.wide() ? 1 : 0);
  }

  Launch int32(int value) {
    values.set(JAVA_INT, slot(), value);
    mix(value);
    return this;
  }

  Launch int64(long value) {
    values.set(JAVA_LONG, slot(), value);
    mix(value);
    return this;
  }

  Launch float32(float value) {
    values.set(JAVA_FLOAT, slot(), value);
    mix(Float.floatToRawIntBits(value));
    return this;
  }

  /** A structure of at most 128 bytes, a multiple of 8, by value. */
  Launch bytes(MemorySegment value) {
    long at = slot();
    MemorySegment.copy(value, 0, values, at, value.byteSize());
    for (long i = 0; i < value.byteSize(); i += 8) {
      mix(values.get(JAVA_LONG, at + i));
    }
    return this;
  }

  Launch grid(int x) {
    return grid(x, 1, 1);
  }

  Launch grid(int x, int y) {
    return grid(x, y, 1);
  }

  Launch grid(int x, int y, int z) {
    if (y > MAX_GRID || z > MAX_GRID) {
      throw new IllegalArgumentException(
          "%s with a grid of [%d, %d, %d]; CUDA takes at most %d along y and z"
              .formatted(kernel.name(), x, y, z, MAX_GRID));
    }
    config.set(JAVA_INT, GRID, x);
    config.set(JAVA_INT, GRID + 4, y);
    config.set(JAVA_INT, GRID + 8, z);
    mix(x);
    mix(((long) y << 32) | z);
    return this;
  }

  Launch block(int threads) {
    return block(threads, 1);
  }

  Launch block(int x, int y) {
    config.set(JAVA_INT, BLOCK, x);
    config.set(JAVA_INT, BLOCK + 4, y);
    config.set(JAVA_INT, BLOCK + 8, 1);
    mix(((long) x << 32) | y);
    return this;
  }

  /** Bytes of dynamic shared memory; see {@link Kernel#sharedLimit}. */
  Launch shared(int bytes) {
    config.set(JAVA_INT, SHARED, bytes);
    mix(bytes);
    return this;
  }

  /** Blocks of a cluster, along x; more than one on Hopper only. */
  Launch cluster(int blocks) {
    if (blocks > 1) {
      MemorySegment attribute = attribute(CLUSTER_DIMENSION);
      attribute.set(JAVA_INT, ATTRIBUTE_VALUE, blocks);
      attribute.set(JAVA_INT, ATTRIBUTE_VALUE + 4, 1);
      attribute.set(JAVA_INT, ATTRIBUTE_VALUE + 8, 1);
      mix(blocks);
    }
    return this;
  }

  /**
   * Programmatic dependent launch: blocks may start before the kernel before has ended. The kernel
   * waits by itself. Nothing where kernels are not those for Hopper: they do not wait; and nothing
   * after {@link #goFenced}.
   */
  Launch dependent() {
    if (programmatic && !fenced) {
      attribute(PROGRAMMATIC_STREAM_SERIALIZATION).set(JAVA_INT, ATTRIBUTE_VALUE, 1);
    }
    return this;
  }

  private MemorySegment attribute(int id) {
    MemorySegment attribute =
        attributes.asSlice((long) attributeCount++ * ATTRIBUTE_BYTES, ATTRIBUTE_BYTES);
    attribute.set(JAVA_INT, 0, id);
    return attribute;
  }

  /** Launches, unless the grid is empty. */
  void go() {
    if (config.get(JAVA_INT, GRID) == 0
        || config.get(JAVA_INT, GRID + 4) == 0
        || config.get(JAVA_INT, GRID + 8) == 0) {
      return;
    }
    if (!stream.announce(hash)) {
      return;
    }
    fenced = false;
    config.set(JAVA_INT, ATTRIBUTE_COUNT, attributeCount);
    int status = DriverCalls.launch(config, kernel.handle(), pointers);
    if (status != 0) {
      stream.device().check(status, "launch of " + this);
    }
  }

  /**
   * Launches a kernel whose results those after it read before they wait for the kernel before
   * them: none may start before it has ended.
   */
  void goFenced() {
    go();
    fenced = true;
  }

  @Override
  public String toString() {
    return "%s<<<(%d, %d, %d), (%d, %d), %d bytes>>>"
        .formatted(
            kernel.name(),
            config.get(JAVA_INT, GRID),
            config.get(JAVA_INT, GRID + 4),
            config.get(JAVA_INT, GRID + 8),
            config.get(JAVA_INT, BLOCK),
            config.get(JAVA_INT, BLOCK + 4),
            config.get(JAVA_INT, SHARED));
  }
}
