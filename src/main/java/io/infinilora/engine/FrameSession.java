package io.infinilora.engine;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraTarget;
import io.infinilora.wire.frames.FrameConnection;
import io.infinilora.wire.frames.FrameException;
import io.infinilora.wire.frames.FrameHeader;
import io.infinilora.wire.frames.FrameListener;
import io.infinilora.wire.frames.FrameType;
import io.infinilora.wire.frames.Hello;
import io.infinilora.wire.frames.ModelShapes;
import io.infinilora.wire.frames.Trouble;
import io.netty.buffer.ByteBuf;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.net.NetSocket;
import java.util.EnumSet;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Executor;
import java.util.concurrent.atomic.AtomicReference;

/**
 * The base model's end of one connection, from the hello until it is closed. What {@link
 * FrameListener} says is on the connection's event loop; the rest on the base's, except where
 * noted.
 */
final class FrameSession implements FrameListener {
  private static final Set<LoraTarget> ALL_TARGETS = EnumSet.allOf(LoraTarget.class);

  private final FrameMemory memory;
  private final String id;
  private final Executor loop;
  private final Promise<Void> welcome = Promise.promise();
  private final Promise<Void> ended = Promise.promise();
  private final AtomicReference<InfiniLoraException> cause = new AtomicReference<>();
  private volatile FrameConnection connection;
  private volatile FrameEpoch epoch;
  private boolean open;

  /**
   * A session that has not begun.
   *
   * @param loop runs a task on the base's event loop
   */
  FrameSession(FrameMemory memory, String id, Executor loop) {
    this.memory = memory;
    this.id = id;
    this.loop = loop;
    epoch = new FrameEpoch(0, memory);
  }

  /** Says hello; completes when the shard has welcomed the base. */
  Future<Void> open(NetSocket socket, UUID incarnation, String base) {
    connection = FrameConnection.over(socket, this);
    connection.send(
        new Hello(
                Hello.VERSION,
                incarnation,
                memory.rows(),
                id,
                base,
                ModelShapes.of(memory.spec(), memory.shard()))
            .frame(connection));
    return welcome.future();
  }

  @Override
  public void check(FrameHeader header) {
    boolean fits =
        switch (header.type()) {
          case WELCOME -> header.bytes() == 0;
          case REFUSAL, FAILURE -> header.bytes() <= Trouble.MOST_BYTES;
          case DELTAS ->
              header.rows() <= memory.rows()
                  && header.bytes()
                      <= memory.layout().deltaBytes(header.site(), ALL_TARGETS, header.rows());
          case HELLO, STEP, ACTIVATIONS, ABANDON -> false;
        };
    if (!fits) {
      throw new FrameException("a base model does not expect " + header);
    }
  }

  @Override
  public void frame(FrameHeader header, ByteBuf payload) {
    FrameEpoch now = epoch;
    boolean current = header.epoch() == now.number() && now.closedBy() == null;
    if (header.type() == FrameType.DELTAS && current) {
      deltas(now, header, payload);
      return;
    }
    try {
      switch (header.type()) {
        case WELCOME -> loop.execute(this::welcomed);
        case REFUSAL -> end(Trouble.read(payload).exception());
        case FAILURE -> {
          if (current) {
            now.failed(header.step(), Trouble.read(payload).exception());
          }
        }
        default -> {} // Deltas of a step that was given up.
      }
    } finally {
      payload.release();
    }
  }

  private static void deltas(FrameEpoch now, FrameHeader header, ByteBuf payload) {
    try {
      now.check(header);
    } catch (FrameException e) {
      payload.release();
      throw e;
    }
    now.deltas(header, payload);
  }

  private void welcomed() {
    if (cause.get() == null) {
      open = true;
      welcome.tryComplete();
    }
  }

  @Override
  public void closed(Throwable why) {
    end(
        new InfiniLoraException(
            ErrorCode.UNAVAILABLE,
            "the connection with LoRA shard %s has ended%s"
                .formatted(memory.shard(), why == null ? "" : ": " + why.getMessage())));
  }

  /** Ends the session if it has not ended: a step in flight fails at once. Any thread. */
  void end(InfiniLoraException why) {
    if (!cause.compareAndSet(null, why)) {
      return;
    }
    epoch.close(why);
    FrameConnection opened = connection;
    if (opened != null) {
      opened.close();
    }
    loop.execute(
        () -> {
          epoch.close(why); // Another may have been begun meanwhile.
          welcome.tryFail(why);
          ended.tryComplete();
        });
  }

  /** Begins another epoch if the present one is closed. */
  void recover() {
    if (cause.get() == null && epoch.closedBy() != null) {
      epoch = new FrameEpoch(epoch.number() + 1, memory);
    }
  }

  /** Under which the shard knows it. */
  String id() {
    return id;
  }

  /** Whether the shard has welcomed the base and nothing has ended the session yet. */
  boolean isOpen() {
    return open && cause.get() == null;
  }

  /** Whether the shard had welcomed the base. */
  boolean wasOpen() {
    return open;
  }

  /** Completes when it has ended; {@link #cause} says why. */
  Future<Void> ended() {
    return ended.future();
  }

  /** Why it has ended, or null. */
  InfiniLoraException cause() {
    return cause.get();
  }

  FrameConnection connection() {
    return connection;
  }

  FrameEpoch epoch() {
    return epoch;
  }
}
