package io.infinilora.engine;

import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraSite;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.frames.FrameException;
import io.infinilora.wire.frames.FrameHeader;
import io.infinilora.wire.frames.PayloadSlots;
import io.netty.buffer.ByteBuf;
import java.util.concurrent.atomic.AtomicReference;

/**
 * The steps of a connection until one of them is given up: what a shared exchange is in one
 * process. Announced and recovered on the base's event loop, filled on the connection's, emptied on
 * the driver thread.
 */
final class FrameEpoch {
  private final int number;
  private final FrameMemory memory;
  private final PayloadSlots slots = new PayloadSlots();
  private final AtomicReference<InfiniLoraException> closedBy = new AtomicReference<>();
  private volatile ShardStep step;
  private volatile Throwable failure;
  private volatile long failed = -1;

  FrameEpoch(int number, FrameMemory memory) {
    this.number = number;
    this.memory = memory;
  }

  /** Its number, which all its frames carry. */
  int number() {
    return number;
  }

  /** A step is announced; the one before has ended. */
  void begin(ShardStep next) {
    step = next;
  }

  /**
   * Connection: checks a header of deltas of this epoch.
   *
   * @throws FrameException if they are not what the step in flight waits for
   */
  void check(FrameHeader header) {
    ShardStep now = step;
    boolean expected =
        now != null
            && header.step() == now.id()
            && header.rows() == now.rows().length
            && now.sites().contains(header.site())
            && memory.layout().holds(header.layer(), header.site())
            && header.bytes()
                == memory.layout().deltaBytes(header.site(), now.targets(), header.rows())
            && value(header) > memory.computed().value();
    if (!expected) {
      throw new FrameException(
          "deltas that nobody waits for, in step %s: %s"
              .formatted(now == null ? "none" : now.id(), header));
    }
  }

  private long value(FrameHeader header) {
    return LoraExchange.value(memory.spec(), header.step(), header.layer(), header.site());
  }

  /** Connection: deltas that were checked have come. */
  void deltas(FrameHeader header, ByteBuf payload) {
    slots.put(header.site(), payload);
    memory.computed().release(value(header));
  }

  /** Connection: the shard has given a step up. */
  void failed(long failedStep, Throwable cause) {
    ShardStep now = step;
    if (now == null || now.id() != failedStep) {
      return; // Known already.
    }
    failure = cause;
    failed = failedStep;
    long last = LoraExchange.lastValue(memory.spec(), failedStep);
    if (memory.computed().value() < last) {
      memory.computed().release(last);
    }
  }

  /** Deltas of a site, to be released by the caller; null if they are gone. */
  ByteBuf take(LoraSite site) {
    return slots.take(site);
  }

  /** Why the shard gave this step up, or null. */
  Throwable failureOf(long stepId) {
    return failed == stepId ? failure : null;
  }

  /** Nothing of it counts any more; any thread. The first cause stays. */
  void close(InfiniLoraException cause) {
    closedBy.compareAndSet(null, cause);
    slots.close();
  }

  /** Why it was closed, or null. */
  InfiniLoraException closedBy() {
    return closedBy.get();
  }
}
