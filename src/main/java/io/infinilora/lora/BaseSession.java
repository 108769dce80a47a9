package io.infinilora.lora;

import io.infinilora.backend.RowGroups;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.LoraStep;
import io.infinilora.wire.frames.FrameConnection;
import io.infinilora.wire.frames.FrameException;
import io.infinilora.wire.frames.FrameHeader;
import io.infinilora.wire.frames.FrameListener;
import io.infinilora.wire.frames.FrameType;
import io.infinilora.wire.frames.Hello;
import io.infinilora.wire.frames.StepFrame;
import io.infinilora.wire.frames.Trouble;
import io.netty.buffer.ByteBuf;
import io.vertx.core.Context;
import io.vertx.core.Vertx;
import io.vertx.core.net.NetSocket;
import java.util.Arrays;
import java.util.Optional;
import java.util.UUID;
import java.util.function.Function;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The shard's end of one connection with a base model in another process. Its activations go into
 * an exchange that mirrors the base's, so that the driver computes as if both shared it. Event loop
 * of the connection.
 */
final class BaseSession implements FrameListener {
  private static final Logger log = LoggerFactory.getLogger(BaseSession.class);
  private static final long HELLO_MILLIS = 10_000;

  private final Vertx vertx;
  private final NetSocket socket;
  private final Function<UUID, RemoteBases> shards;
  private final Context context;
  private FrameConnection connection;
  private long timer;
  private boolean over;

  // Set by the hello.
  private Hello hello;
  private RemoteBases bases;

  // Of the present epoch.
  private int epoch;
  private FrameCourier courier;
  private LoraExchange exchange;
  private LoraStep step;
  private long lastStep = -1;

  /**
   * A connection that nothing has come from yet.
   *
   * @param shards finds who serves as an incarnation; null if nobody does
   */
  BaseSession(Vertx vertx, NetSocket socket, Function<UUID, RemoteBases> shards) {
    this.vertx = vertx;
    this.socket = socket;
    this.shards = shards;
    context = vertx.getOrCreateContext();
  }

  void begin() {
    connection = FrameConnection.over(socket, this);
    timer = vertx.setTimer(HELLO_MILLIS, t -> silent());
  }

  private void silent() {
    if (hello == null) {
      log.warn("{} has connected, but does not say hello", socket.remoteAddress());
      connection.close();
    }
  }

  @Override
  public void check(FrameHeader header) {
    if (hello == null) {
      if (header.type() != FrameType.HELLO || header.bytes() > Hello.MOST_BYTES) {
        throw new FrameException("instead of a hello came " + header);
      }
      return;
    }
    boolean fits =
        bases != null // Or the base was refused.
            && header.rows() <= hello.rows()
            && switch (header.type()) {
              case STEP ->
                  header.rows() > 0 && header.bytes() <= StepFrame.mostBytes(header.rows());
              case ACTIVATIONS -> fitsActivations(header);
              case ABANDON -> header.bytes() == 0;
              case HELLO, WELCOME, REFUSAL, DELTAS, FAILURE -> false;
            };
    if (!fits || header.epoch() > epoch) {
      throw new FrameException("base model %s sends %s".formatted(hello.base(), header));
    }
  }

  private boolean fitsActivations(FrameHeader header) {
    if (header.epoch() < epoch || exchange == null) { // Will be dropped.
      return header.bytes()
          <= bases.layout().rowBytes(header.site(), header.rows())
              + bases.layout().routingBytes(header.rows());
    }
    return step != null
        && header.step() == step.id()
        && header.rows() == step.rows()
        && step.sites().contains(header.site())
        && bases.layout().holds(header.layer(), header.site())
        && header.bytes()
            == bases.layout().activationBytes(header.site(), step.sites(), header.rows())
        && exchange.value(header.step(), header.layer(), header.site())
            > exchange.published().value();
  }

  @Override
  public void frame(FrameHeader header, ByteBuf payload) {
    if (header.type() == FrameType.ACTIVATIONS && header.epoch() == epoch && exchange != null) {
      courier.put(header.site(), payload);
      exchange.published().release(exchange.value(header.step(), header.layer(), header.site()));
      return;
    }
    try {
      switch (header.type()) {
        case HELLO -> hello(Hello.read(payload));
        case STEP -> {
          if (header.epoch() == epoch) {
            step(header, StepFrame.read(payload, header.rows()));
          }
        }
        case ABANDON -> {
          if (header.epoch() == epoch) {
            abandoned();
          }
        }
        default -> {} // Activations of a step that was given up.
      }
    } finally {
      payload.release();
    }
  }

  private void hello(Hello said) {
    vertx.cancelTimer(timer);
    hello = said;
    try {
      if (said.version() != Hello.VERSION) {
        throw new InfiniLoraException(
            ErrorCode.BAD_CONFIG,
            "the base model's frames are of version %d, the LoRA server's of version %d"
                .formatted(said.version(), Hello.VERSION));
      }
      RemoteBases found = shards.apply(said.incarnation());
      if (found == null) {
        throw new InfiniLoraException(
            ErrorCode.UNAVAILABLE,
            "no shard of incarnation %s serves here any more".formatted(said.incarnation()));
      }
      found.admit(said, this);
      bases = found;
    } catch (InfiniLoraException e) {
      log.warn("{} is refused: {}", socket.remoteAddress(), e.getMessage());
      connection.sendLast(Trouble.of(e).frame(connection, FrameType.REFUSAL, 0, 0));
      return;
    }
    log.info("base model {} has connected to LoRA shard {}", said.base(), bases.shard());
    open();
    if (exchange != null) {
      welcome();
      return;
    }
    allocate();
  }

  private void welcome() {
    connection.send(FrameHeader.of(FrameType.WELCOME, 0, 0, 0, 0));
  }

  /** Opens an exchange for the present epoch if there is memory at hand. */
  private void open() {
    courier = new FrameCourier(connection, bases.layout(), epoch);
    Optional<LoraExchange> free = bases.reuse(hello.rows(), courier);
    exchange = free.orElse(null);
    step = null;
  }

  private void allocate() {
    boolean first = epoch == 0;
    vertx
        .<Void>executeBlocking(
            () -> {
              bases.allocate(hello.rows());
              return null;
            })
        .onComplete(
            v -> context.runOnContext(w -> allocated(first)),
            e -> {
              log.error("no memory for base model {}", hello.base(), e);
              connection.close();
            });
  }

  private void allocated(boolean first) {
    if (over || exchange != null) {
      return;
    }
    open();
    if (exchange == null) {
      allocate(); // Somebody else was faster.
    } else if (first) {
      welcome();
    }
  }

  private void step(FrameHeader header, StepFrame frame) {
    if (header.step() <= lastStep) {
      throw new FrameException("step %d comes after step %d".formatted(header.step(), lastStep));
    }
    lastStep = header.step();
    if (exchange == null) {
      courier.failed(
          header.step(),
          new InfiniLoraException(
              ErrorCode.UNAVAILABLE,
              "LoRA shard %s is busy with a step that was given up".formatted(bases.shard())));
      return;
    }
    int[] rows = new int[frame.rows()];
    Arrays.setAll(rows, i -> i);
    step =
        LoraStep.of(
            header.step(),
            exchange,
            bases.incarnation(),
            new RowGroups(rows, frame.starts()),
            frame.slots(),
            frame.targets(),
            System.nanoTime() + frame.leftNanos());
    bases.post(step);
  }

  private void abandoned() {
    giveBack();
    epoch++;
    open();
    if (exchange == null) {
      allocate();
    }
  }

  private void giveBack() {
    courier.close();
    if (exchange != null) {
      bases.giveBack(exchange);
      exchange = null;
    }
  }

  @Override
  public void closed(Throwable cause) {
    over = true;
    vertx.cancelTimer(timer);
    if (bases == null) {
      if (cause != null) {
        log.warn("a connection from {} is closed: {}", socket.remoteAddress(), cause.getMessage());
      }
      return;
    }
    log.warn(
        "base model {} has left LoRA shard {}{}",
        hello.base(),
        bases.shard(),
        cause == null ? "" : ": " + cause.getMessage());
    giveBack();
    bases.left(this, hello.session());
  }

  /** Ends the connection; any thread. */
  void end() {
    connection.close();
  }
}
