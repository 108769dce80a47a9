package io.infinilora.wire.frames;

import io.infinilora.core.LoraTarget;
import io.netty.buffer.ByteBuf;
import java.util.EnumSet;
import java.util.Set;

/**
 * What the layers of a step have in common. On the wire: nanoseconds left (int64), targets (int32,
 * bit n for the n-th {@link LoraTarget}), number of groups (int32), then of each group its slot and
 * its number of rows (int32 each). Rows are compact and lie group after group; the header has their
 * number.
 *
 * @param leftNanos time after which both sides give the step up
 * @param targets that at least one of the adapters has
 * @param slots adapter slot of each group
 * @param starts first row of each group, plus the number of rows
 */
public record StepFrame(long leftNanos, Set<LoraTarget> targets, int[] slots, int[] starts) {
  private static final int FIXED_BYTES = 16;
  private static final int GROUP_BYTES = 8;
  private static final LoraTarget[] TARGETS = LoraTarget.values();

  /** Copies the set. */
  public StepFrame {
    targets = Set.copyOf(targets);
  }

  /** Most bytes of the payload of a step of {@code rows} rows, which has no more groups. */
  public static int mostBytes(int rows) {
    return Math.toIntExact(FIXED_BYTES + (long) GROUP_BYTES * rows);
  }

  /** Number of rows. */
  public int rows() {
    return starts[slots.length];
  }

  /** The whole frame. */
  public ByteBuf frame(FrameConnection connection, int epoch, long step) {
    int bytes = FIXED_BYTES + GROUP_BYTES * slots.length;
    ByteBuf out = connection.frame(FrameHeader.of(FrameType.STEP, epoch, step, rows(), bytes));
    out.writeLongLE(leftNanos);
    int bits = 0;
    for (LoraTarget target : targets) {
      bits |= 1 << target.ordinal();
    }
    out.writeIntLE(bits);
    out.writeIntLE(slots.length);
    for (int g = 0; g < slots.length; g++) {
      out.writeIntLE(slots[g]);
      out.writeIntLE(starts[g + 1] - starts[g]);
    }
    return out;
  }

  /**
   * Reads a payload.
   *
   * @param rows of the header
   * @throws FrameException if it is none
   */
  public static StepFrame read(ByteBuf in, int rows) {
    if (in.readableBytes() < FIXED_BYTES) {
      throw new FrameException("a step of " + in.readableBytes() + " bytes");
    }
    long left = in.readLongLE();
    int bits = in.readIntLE();
    int groups = in.readIntLE();
    if (bits < 0 || bits >= 1 << TARGETS.length) {
      throw new FrameException("a step with targets %x".formatted(bits));
    }
    if (groups < 1 || in.readableBytes() != (long) GROUP_BYTES * groups) {
      throw new FrameException(
          "a step with %d groups in %d bytes".formatted(groups, in.readableBytes()));
    }
    int[] slots = new int[groups];
    int[] starts = new int[groups + 1];
    for (int g = 0; g < groups; g++) {
      slots[g] = in.readIntLE();
      int count = in.readIntLE();
      if (count < 1 || count > rows - starts[g]) {
        throw new FrameException("group %d of a step of %d rows has %d".formatted(g, rows, count));
      }
      starts[g + 1] = starts[g] + count;
    }
    if (starts[groups] != rows) {
      throw new FrameException(
          "the groups of a step of %d rows have %d".formatted(rows, starts[groups]));
    }
    Set<LoraTarget> targets = EnumSet.noneOf(LoraTarget.class);
    for (LoraTarget target : TARGETS) {
      if ((bits & 1 << target.ordinal()) != 0) {
        targets.add(target);
      }
    }
    return new StepFrame(left, targets, slots, starts);
  }
}
