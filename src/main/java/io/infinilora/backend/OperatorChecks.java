package io.infinilora.backend;

import java.lang.foreign.MemorySegment;
import java.util.function.Supplier;

/**
 * What must hold before an operator may touch memory on whatever device: kernels check nothing. All
 * methods throw {@link IllegalArgumentException}.
 */
public abstract class OperatorChecks {

  /** Any condition; the message is made only if it does not hold. */
  public final void that(boolean condition, Supplier<String> message) {
    if (!condition) {
      throw new IllegalArgumentException(message.get());
    }
  }

  /** That every index lies below a bound. */
  public final void indices(int[] indices, int bound, String what) {
    for (int i : indices) {
      if (i < 0 || i >= bound) {
        throw new IllegalArgumentException(what + " " + i + " of " + bound);
      }
    }
  }

  /** That memory can be reached from native code and has so many bytes. */
  public final void memory(MemorySegment memory, long bytes, String what) {
    that(
        memory.isNative() && memory.byteSize() >= bytes,
        () ->
            "%s is %d bytes of %s memory, but should be %d bytes of native memory"
                .formatted(what, memory.byteSize(), memory.isNative() ? "native" : "heap", bytes));
  }

  /** That groups are as many as adapters, and that each takes rows which exist and are its own. */
  public final void groups(RowGroups groups, int adapters, int rows) {
    int[] starts = groups.starts();
    that(
        adapters == groups.groups()
            && starts[0] == 0
            && starts[groups.groups()] == groups.rows().length,
        () -> adapters + " adapters for " + groups.groups() + " groups");
    boolean[] taken = new boolean[rows];
    indices(groups.rows(), rows, "row");
    for (int row : groups.rows()) {
      that(!taken[row], () -> "row " + row + " is in two groups");
      taken[row] = true;
    }
    for (int g = 0; g < groups.groups(); g++) {
      int group = g;
      that(starts[g] <= starts[g + 1], () -> "group " + group + " has a negative size");
    }
  }

  /** What is wrong with the adapter of a group that is not there. */
  public final IllegalArgumentException unusable(int group) {
    return new IllegalArgumentException(
        "adapter weights of group " + group + " are freed or belong to another backend");
  }
}
