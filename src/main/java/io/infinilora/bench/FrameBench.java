package io.infinilora.bench;

import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Signal;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.core.Activation;
import io.infinilora.core.LoraShard;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.frames.FrameConnection;
import io.infinilora.wire.frames.FrameHeader;
import io.infinilora.wire.frames.FrameLayout;
import io.infinilora.wire.frames.FrameListener;
import io.infinilora.wire.frames.FrameType;
import io.infinilora.wire.frames.PayloadSlots;
import io.netty.buffer.ByteBuf;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.net.NetClient;
import io.vertx.core.net.NetServer;
import io.vertx.core.transport.Transport;
import java.util.Arrays;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;

/**
 * What it costs to have the LoRA server elsewhere: per layer, all four sites' activations to it and
 * their deltas back, without the low-rank products. In frames over the loopback, beside the shared
 * memory of one process, and the limit: four round trips of an empty frame and the layer's bytes at
 * the rate of a stream of large frames.
 *
 * <p>Usage: {@code FrameBench [io_uring | epoll | nio]}
 */
public final class FrameBench {
  private static final int LAYERS = 1000;
  private static final int ROUNDS = 5;
  private static final int STREAM_FRAMES = 256;
  private static final int STREAM_BYTES = 1 << 20;
  private static final int PINGS = 5_000;
  private static final Set<LoraSite> SITES = EnumSet.allOf(LoraSite.class);
  private static final Set<LoraTarget> TARGETS = EnumSet.allOf(LoraTarget.class);
  private static final long NEVER = Long.MAX_VALUE / 2;

  private final Backend backend;
  private final OpStream ops;
  private final OpStream serverOps;
  private final Signal arrivedAtBase;
  private final Signal arrivedAtServer;
  private final End base = new End();
  private final End server = new End();

  /** One end of the connection: what a session does, without its checks. */
  private static final class End implements FrameListener {
    private volatile FrameConnection connection;
    private volatile PayloadSlots slots = new PayloadSlots();
    private volatile Signal arrived;
    private long count;

    @Override
    public void check(FrameHeader header) {}

    @Override
    public void frame(FrameHeader header, ByteBuf payload) {
      switch (header.type()) {
        case STEP -> { // A ping.
          payload.release();
          connection.send(FrameHeader.of(FrameType.WELCOME, 0, 0, 0, 0));
        }
        case WELCOME, ABANDON -> { // A pong, or one of a stream.
          payload.release();
          arrived.release(++count);
        }
        default -> {
          slots.put(header.site(), payload);
          arrived.release(++count);
        }
      }
    }

    @Override
    public void closed(Throwable cause) {}
  }

  private FrameBench(Backend backend) {
    this.backend = backend;
    ops = backend.openStream("base", 1);
    serverOps = backend.openStream("lora", 1);
    arrivedAtBase = backend.signal();
    arrivedAtServer = backend.signal();
    base.arrived = arrivedAtBase;
    server.arrived = arrivedAtServer;
  }

  /** Runs the benchmark and prints a table. */
  public static void main(String[] args) throws InterruptedException {
    Transport transport =
        switch (args.length == 0 ? "nio" : args[0]) {
          case "io_uring" -> Transport.IO_URING;
          case "epoll" -> Transport.EPOLL;
          case "nio" -> Transport.NIO;
          default -> throw new IllegalArgumentException(args[0]);
        };
    Vertx vertx = Vertx.builder().withTransport(transport).build();
    Backend backend =
        new CpuBackend(false); // Four threads here: waiting ones give their core away.
    try {
      FrameBench bench = new FrameBench(backend);
      NetClient client = vertx.createNetClient(); // One that is collected ends its connections.
      bench.connect(vertx, client);
      bench.run(transport.name());
      join(client.close());
    } finally {
      join(vertx.close());
      backend.close();
    }
  }

  private static <T> T join(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().join();
  }

  private void connect(Vertx vertx, NetClient client) {
    CompletableFuture<Void> accepted = new CompletableFuture<>();
    NetServer listening =
        join(
            vertx
                .createNetServer()
                .connectHandler(
                    socket -> {
                      server.connection = FrameConnection.over(socket, server);
                      accepted.complete(null);
                    })
                .listen(0, "127.0.0.1"));
    join(
        client
            .connect(listening.actualPort(), "127.0.0.1")
            .onSuccess(socket -> base.connection = FrameConnection.over(socket, base)));
    accepted.join();
  }

  private void run(String transport) throws InterruptedException {
    double roundTrip = roundTrip();
    double rate = rate();
    System.out.printf(
        "%s: a round trip takes %.1f us, a stream moves %.2f GB/s%n",
        transport, roundTrip / 1e3, rate);
    System.out.printf(
        "%-7s %5s %10s %12s %12s %12s %8s%n",
        "hidden", "rows", "KB/layer", "frames us", "shared us", "limit us", "limit %");
    for (int[] shape : new int[][] {{576, 9, 3, 1536}, {2048, 32, 8, 8192}, {4096, 32, 8, 14336}}) {
      for (int rows : new int[] {1, 8, 64}) {
        measure(spec(shape), rows, roundTrip, rate);
      }
    }
  }

  private static ModelSpec spec(int[] shape) {
    return new ModelSpec(
        "bench",
        LAYERS,
        shape[0],
        1000,
        4096,
        new ModelSpec.Attention(
            shape[1],
            shape[2],
            shape[0] / shape[1],
            false,
            false,
            false,
            false,
            0,
            Collections.nCopies(LAYERS, 0)),
        new ModelSpec.Mlp(shape[3], Activation.SWIGLU, null),
        ModelSpec.Norm.RMS,
        1e-6,
        null,
        true,
        -1,
        List.of());
  }

  private double roundTrip() {
    double best = Double.MAX_VALUE;
    for (int round = 0; round < ROUNDS; round++) {
      long start = System.nanoTime();
      for (int i = 0; i < PINGS; i++) {
        long next = arrivedAtBase.value() + 1;
        base.connection.send(FrameHeader.of(FrameType.STEP, 0, 0, 0, 0));
        arrivedAtBase.await(next, NEVER + System.nanoTime());
      }
      best = Math.min(best, (double) (System.nanoTime() - start) / PINGS);
    }
    return best;
  }

  /** Bytes per nanosecond. */
  private double rate() {
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
      long last = arrivedAtServer.value() + STREAM_FRAMES;
      long start = System.nanoTime();
      for (int i = 0; i < STREAM_FRAMES; i++) {
        base.connection.send(
            base.connection
                .frame(FrameHeader.of(FrameType.ABANDON, 0, 0, 0, STREAM_BYTES))
                .writerIndex(FrameHeader.BYTES + STREAM_BYTES));
      }
      arrivedAtServer.await(last, NEVER + System.nanoTime());
      best = Math.max(best, (double) STREAM_FRAMES * STREAM_BYTES / (System.nanoTime() - start));
    }
    return best;
  }

  private void measure(ModelSpec spec, int rows, double roundTrip, double rate)
      throws InterruptedException {
    FrameLayout layout = new FrameLayout(spec, LoraShard.WHOLE);
    LoraExchange exchange = new LoraExchange(backend, spec, LoraShard.WHOLE, rows);
    // Stands for the model's own tensors.
    LoraExchange model = new LoraExchange(backend, spec, LoraShard.WHOLE, rows);
    double shared = Double.MAX_VALUE;
    double frames = Double.MAX_VALUE;
    int layers = rows == 64 ? LAYERS / 5 : LAYERS;
    for (int round = 0; round < ROUNDS; round++) {
      int step = round;
      long before = arrivedAtServer.value();
      shared =
          Math.min(
              shared,
              timed(
                  layers,
                  () -> serveShared(exchange, step, layers),
                  () -> baseShared(model, exchange, step, layers)));
      frames =
          Math.min(
              frames,
              timed(
                  layers,
                  () -> serveFrames(exchange, layout, layers, before),
                  () -> baseFrames(model, layout, layers)));
    }
    long bytes = 0;
    for (LoraSite site : LoraSite.all()) {
      bytes +=
          layout.activationBytes(site, SITES, rows)
              + layout.deltaBytes(site, TARGETS, rows)
              + 2 * FrameHeader.BYTES;
    }
    double limit = 4 * roundTrip + bytes / rate;
    System.out.printf(
        "%-7d %5d %10.1f %12.1f %12.1f %12.1f %8.0f%n",
        spec.hidden(),
        rows,
        bytes / 1e3,
        frames / 1e3,
        shared / 1e3,
        limit / 1e3,
        100 * limit / frames);
  }

  private static double timed(int layers, Runnable served, Runnable asked)
      throws InterruptedException {
    Thread driver = Thread.ofPlatform().start(served);
    long start = System.nanoTime();
    asked.run();
    double nanos = (double) (System.nanoTime() - start) / layers;
    driver.join();
    return nanos;
  }

  private static int[] all(int rows) {
    int[] all = new int[rows];
    Arrays.setAll(all, i -> i);
    return all;
  }

  private void baseShared(LoraExchange model, LoraExchange exchange, int step, int layers) {
    int[] rows = all(exchange.capacity());
    for (int layer = 0; layer < layers; layer++) {
      for (LoraSite site : LoraSite.all()) {
        Tensor x = exchange.activations(site, rows.length);
        ops.gather(model.activations(site, rows.length), rows, x);
        ops.release(exchange.published(), exchange.value(step, layer, site));
        ops.await(
            exchange.computed(), exchange.value(step, layer, site), NEVER + System.nanoTime());
        for (LoraTarget target : site.targets()) {
          Tensor delta = exchange.delta(target, rows.length);
          ops.scatterAdd(delta, rows, model.delta(target, rows.length));
        }
      }
    }
  }

  private void serveShared(LoraExchange exchange, int step, int layers) {
    for (int layer = 0; layer < layers; layer++) {
      for (LoraSite site : LoraSite.all()) {
        long value = exchange.value(step, layer, site);
        serverOps.await(exchange.published(), value, NEVER + System.nanoTime());
        serverOps.release(exchange.computed(), value);
      }
    }
  }

  private void baseFrames(LoraExchange exchange, FrameLayout layout, int layers) {
    int[] rows = all(exchange.capacity());
    long arrived = arrivedAtBase.value();
    for (int layer = 0; layer < layers; layer++) {
      for (LoraSite site : LoraSite.all()) {
        int bytes = layout.rowBytes(site, rows.length);
        ByteBuf frame =
            base.connection.frame(header(FrameType.ACTIVATIONS, layer, site, rows.length, bytes));
        ops.packRows(
            exchange.activations(site, rows.length), rows, FrameConnection.room(frame, bytes));
        base.connection.send(frame);
        ops.await(arrivedAtBase, ++arrived, NEVER + System.nanoTime());
        ByteBuf payload = base.slots.take(site);
        for (LoraTarget target : site.targets()) {
          ops.addRows(
              FrameConnection.part(payload, layout.deltaBytes(target, rows.length)),
              rows,
              exchange.delta(target, rows.length));
        }
        payload.release();
      }
    }
  }

  private void serveFrames(LoraExchange exchange, FrameLayout layout, int layers, long before) {
    int[] rows = all(exchange.capacity());
    long arrived = before;
    for (int layer = 0; layer < layers; layer++) {
      for (LoraSite site : LoraSite.all()) {
        serverOps.await(arrivedAtServer, ++arrived, NEVER + System.nanoTime());
        ByteBuf payload = server.slots.take(site);
        serverOps.unpackRows(
            FrameConnection.part(payload, layout.rowBytes(site, rows.length)),
            exchange.activations(site, rows.length));
        payload.release();
        int bytes = layout.deltaBytes(site, TARGETS, rows.length);
        ByteBuf frame =
            server.connection.frame(header(FrameType.DELTAS, layer, site, rows.length, bytes));
        for (LoraTarget target : site.targets()) {
          serverOps.packRows(
              exchange.delta(target, rows.length),
              rows,
              FrameConnection.room(frame, layout.deltaBytes(target, rows.length)));
        }
        server.connection.send(frame);
      }
    }
  }

  private static FrameHeader header(FrameType type, int layer, LoraSite site, int rows, int bytes) {
    return new FrameHeader(type, 0, 0, layer, site, rows, bytes);
  }
}
