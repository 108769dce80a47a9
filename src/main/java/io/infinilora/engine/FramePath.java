package io.infinilora.engine;

import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.core.ModelSpec;
import io.infinilora.wire.ShardNotice;
import io.infinilora.wire.frames.FrameHeader;
import io.infinilora.wire.frames.FrameType;
import io.infinilora.wire.frames.StepFrame;
import io.vertx.core.Context;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.net.NetClient;
import io.vertx.core.net.NetClientOptions;
import io.vertx.core.net.NetSocket;
import java.util.UUID;
import java.util.function.Consumer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The way to a shard in another process: one connection, made again whenever it ends, later and
 * later as long as that fails. Each connection is a session of its own.
 */
final class FramePath implements StepPath {
  private static final Logger log = LoggerFactory.getLogger(FramePath.class);
  private static final int CONNECT_MILLIS = 5_000;
  private static final long WELCOME_MILLIS = 10_000;
  private static final long FIRST_RETRY_MILLIS = 20;
  private static final long LAST_RETRY_MILLIS = 2_000;

  private final String base;
  private final Vertx vertx;
  private final Backend backend;
  private final ModelSpec spec;
  private final LoraShard shard;
  private final int rows;
  private final Consumer<InfiniLoraException> disconnected;
  private final Context context;
  private final NetClient client;
  private FrameMemory memory;
  private ShardNotice target;
  private FrameSession session;
  private long retryMillis = FIRST_RETRY_MILLIS;
  private String trouble = "";
  private volatile boolean closed;

  /**
   * A way that leads nowhere yet. Called on the event loop.
   *
   * @param rows most rows of a step
   * @param disconnected is told, on the event loop, when an open session has ended by itself
   */
  FramePath(
      String base,
      Vertx vertx,
      Backend backend,
      ModelSpec spec,
      LoraShard shard,
      int rows,
      Consumer<InfiniLoraException> disconnected) {
    this.base = base;
    this.vertx = vertx;
    this.backend = backend;
    this.spec = spec;
    this.shard = shard;
    this.rows = rows;
    this.disconnected = disconnected;
    context = vertx.getOrCreateContext();
    client =
        vertx.createNetClient(
            new NetClientOptions()
                .setConnectTimeout(CONNECT_MILLIS)
                .setTcpNoDelay(true)
                .setTcpKeepAlive(true));
  }

  @Override
  public Future<Void> lead(ShardNotice notice) {
    target = notice;
    retryMillis = FIRST_RETRY_MILLIS;
    if (memory != null) {
      connect(notice);
      return Future.succeededFuture();
    }
    return vertx
        .executeBlocking(() -> new FrameMemory(backend, spec, shard, rows))
        .onSuccess(
            fresh -> {
              memory = memory == null ? fresh : memory;
              connect(notice);
            })
        .mapEmpty();
  }

  private boolean wanted(ShardNotice notice) {
    return !closed && target == notice;
  }

  private void connect(ShardNotice notice) {
    if (!wanted(notice)) {
      return;
    }
    client
        .connect(notice.frames().port(), notice.frames().host())
        .onSuccess(socket -> begin(notice, socket))
        .onFailure(
            cause -> {
              failed("LoRA shard %s: %s".formatted(shard, cause.getMessage()));
              retry(notice);
            });
  }

  private void begin(ShardNotice notice, NetSocket socket) {
    if (!wanted(notice)) {
      socket.close();
      return;
    }
    String id = base + "/" + UUID.randomUUID();
    FrameSession begun =
        new FrameSession(memory, id, task -> context.runOnContext(v -> task.run()));
    session = begun;
    long timer =
        vertx.setTimer(
            WELCOME_MILLIS,
            t ->
                begun.end(
                    new InfiniLoraException(
                        ErrorCode.DEADLINE_EXCEEDED,
                        "LoRA shard %s does not answer the hello".formatted(shard))));
    begun
        .open(socket, notice.incarnation(), base)
        .onComplete(v -> vertx.cancelTimer(timer))
        .onSuccess(
            v -> {
              retryMillis = FIRST_RETRY_MILLIS;
              trouble = "";
            });
    begun.ended().onComplete(v -> ended(notice, begun));
  }

  private void ended(ShardNotice notice, FrameSession over) {
    if (session != over) {
      return; // Lost already.
    }
    session = null;
    if (closed) {
      return;
    }
    InfiniLoraException cause = over.cause();
    failed(cause.getMessage());
    if (over.wasOpen()) {
      disconnected.accept(cause);
    }
    retry(notice);
  }

  /** What goes wrong again and again is told once. */
  private void failed(String how) {
    if (!how.equals(trouble)) {
      log.warn("{}", how);
    }
    trouble = how;
  }

  private void retry(ShardNotice notice) {
    if (wanted(notice)) {
      vertx.setTimer(retryMillis, t -> connect(notice));
      retryMillis = Math.min(2 * retryMillis, LAST_RETRY_MILLIS);
    }
  }

  @Override
  public boolean isOpen() {
    return session != null && session.isOpen();
  }

  @Override
  public String trouble() {
    return trouble;
  }

  @Override
  public String session() {
    return session.id();
  }

  @Override
  public Announced announce(ShardStep step) {
    FrameSession here = session;
    if (here == null || !here.isOpen()) {
      throw new LoraSideException(
          ErrorCode.UNAVAILABLE, "LoRA shard %s is not connected".formatted(shard), null);
    }
    FrameEpoch epoch = here.epoch();
    epoch.begin(step);
    long left = step.deadlineNanos() - System.nanoTime();
    here.connection()
        .send(
            new StepFrame(left, step.targets(), step.slots(), step.groups().starts())
                .frame(here.connection(), epoch.number(), step.id()));
    return new Announced() {
      @Override
      public ShardPort port(OpStream ops) {
        return new FramePort(memory, here.connection(), epoch, step, ops);
      }

      @Override
      public void abandon() {
        FramePath.abandon(
            here,
            epoch,
            step.id(),
            new InfiniLoraException(
                ErrorCode.UNAVAILABLE, "LoRA step %d was given up".formatted(step.id())));
      }
    };
  }

  private static void abandon(
      FrameSession session, FrameEpoch epoch, long step, InfiniLoraException cause) {
    epoch.close(cause);
    session.connection().send(FrameHeader.of(FrameType.ABANDON, epoch.number(), step, 0, 0));
    if (!session.connection().keepsUp()) {
      session.connection().close(); // Or all that is sent to somebody who hangs would pile up.
    }
  }

  @Override
  public void giveUp(InfiniLoraException cause) {
    if (isOpen()) {
      abandon(session, session.epoch(), 0, cause);
    }
  }

  @Override
  public void lost(InfiniLoraException cause) {
    target = null;
    if (session != null) {
      FrameSession gone = session;
      session = null;
      gone.end(cause);
    }
  }

  @Override
  public Future<Void> recover() {
    if (session != null) {
      session.recover();
    }
    return Future.succeededFuture();
  }

  @Override
  public void close() {
    closed = true;
    FrameSession last = session;
    if (last != null) {
      last.end(new InfiniLoraException(ErrorCode.UNAVAILABLE, "the base model has ended"));
    }
    client.close();
  }
}
