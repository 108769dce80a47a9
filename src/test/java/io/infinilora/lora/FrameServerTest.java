package io.infinilora.lora;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.adapter.SourceResolver;
import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.Eviction;
import io.infinilora.core.LoraShard;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.metrics.LoraMetrics;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.infinilora.wire.ShardNotice;
import io.infinilora.wire.WireCodecs;
import io.infinilora.wire.frames.FrameConnection;
import io.infinilora.wire.frames.FrameHeader;
import io.infinilora.wire.frames.FrameLayout;
import io.infinilora.wire.frames.FrameListener;
import io.infinilora.wire.frames.FrameType;
import io.infinilora.wire.frames.Hello;
import io.infinilora.wire.frames.ModelShapes;
import io.infinilora.wire.frames.StepFrame;
import io.infinilora.wire.frames.Trouble;
import io.netty.buffer.ByteBuf;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.net.NetClient;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What a shard says to those who connect, whoever they are. */
class FrameServerTest {
  private static final int ROWS = 8;
  private static final String GARBAGE = "GET / HTTP/1.1\r\nHost: a-host-of-some-length\r\n\r\n";

  private final Vertx vertx = Vertx.vertx();

  /** Kept: one that is collected ends its connections. */
  private final NetClient clients = vertx.createNetClient();

  private final Backend backend = new CpuBackend();
  private final Checkpoint checkpoint =
      Checkpoints.open(Path.of("src/test/resources/fixtures/qwen3"));
  private final ModelSpec spec = checkpoint.spec();
  private final FrameLayout layout = new FrameLayout(spec, LoraShard.WHOLE);
  private FrameServer server;
  private UUID incarnation;

  /** What came to a client: the type, and what trouble there is. */
  private record Received(FrameHeader header, String text) {}

  private final class Client implements FrameListener {
    private final BlockingQueue<Received> received = new LinkedBlockingQueue<>();
    private final CompletableFuture<Void> closed = new CompletableFuture<>();
    private FrameConnection connection;

    @Override
    public void check(FrameHeader header) {}

    @Override
    public void frame(FrameHeader header, ByteBuf payload) {
      boolean trouble = header.type() == FrameType.REFUSAL || header.type() == FrameType.FAILURE;
      received.add(new Received(header, trouble ? Trouble.read(payload).message() : ""));
      payload.release();
    }

    @Override
    public void closed(Throwable cause) {
      closed.complete(null);
    }

    Received next() {
      try {
        Received next = received.poll(30, TimeUnit.SECONDS);
        assertThat(next).as("a frame").isNotNull();
        return next;
      } catch (InterruptedException e) {
        throw new IllegalStateException(e);
      }
    }

    void awaitClosed() {
      closed.orTimeout(30, TimeUnit.SECONDS).join();
    }
  }

  @BeforeEach
  void serve() {
    WireCodecs.registerAll(vertx.eventBus());
    server = await(FrameServer.listen(vertx, new FrameEndpoint("127.0.0.1", "127.0.0.1", 0)));
    await(
        vertx.deployVerticle(
            new LoraShardVerticle(
                spec,
                LoraShard.WHOLE,
                backend,
                new AdapterBudgets(4 << 20, 0, Eviction.LRU),
                1,
                SourceResolver.DIRECTORIES,
                LoraMetrics.NONE,
                Optional.of(server))));
    incarnation = ShardNotice.local(vertx).getFirst().incarnation();
  }

  @AfterEach
  void close() {
    await(vertx.close());
    backend.close();
    checkpoint.close();
  }

  private static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().orTimeout(60, TimeUnit.SECONDS).join();
  }

  private Client connect() {
    Client client = new Client();
    await(
        clients
            .connect(server.address().port(), server.address().host())
            .onSuccess(socket -> client.connection = FrameConnection.over(socket, client)));
    return client;
  }

  private Hello hello() {
    return new Hello(
        Hello.VERSION, incarnation, ROWS, "base/1", "base", ModelShapes.of(spec, LoraShard.WHOLE));
  }

  private Client welcomed() {
    Client client = connect();
    client.connection.send(hello().frame(client.connection));
    assertThat(client.next().header().type()).isEqualTo(FrameType.WELCOME);
    return client;
  }

  private String refusal(Hello hello) {
    Client client = connect();
    client.connection.send(hello.frame(client.connection));
    Received answer = client.next();
    assertThat(answer.header().type()).isEqualTo(FrameType.REFUSAL);
    client.awaitClosed();
    return answer.text();
  }

  @Test
  void refusesWhomItDoesNotKnowAndSaysWhy() {
    String shapes = hello().shapes();
    assertThat(refusal(new Hello(2, incarnation, ROWS, "s", "b", shapes)))
        .contains("of version 2", "of version 1");
    UUID other = UUID.randomUUID();
    assertThat(refusal(new Hello(1, other, ROWS, "s", "b", shapes)))
        .contains(other.toString(), "any more");
    assertThat(refusal(new Hello(1, incarnation, ROWS, "s", "b", "3 layers")))
        .contains("it has 3 layers", shapes);
    for (int rows : new int[] {0, -1, EngineConfig.MOST_BATCHED_TOKENS + 1}) {
      assertThat(refusal(new Hello(1, incarnation, rows, "s", "b", shapes)))
          .contains("steps of " + rows + " rows", "engine.maxBatchedTokens", "1 to 65535");
    }
  }

  private StepFrame step() {
    // No adapter is in these slots.
    return new StepFrame(
        TimeUnit.SECONDS.toNanos(30), Set.of(LoraTarget.Q), new int[] {7}, new int[] {0, 2});
  }

  private FrameHeader activations(int epoch, long step, int rows, int more) {
    int bytes = layout.activationBytes(LoraSite.ATTENTION_IN, Set.of(LoraSite.ATTENTION_IN), rows);
    return new FrameHeader(
        FrameType.ACTIVATIONS, epoch, step, 0, LoraSite.ATTENTION_IN, rows, bytes + more);
  }

  private static void send(Client client, FrameHeader header) {
    client.connection.send(client.connection.frame(header).writeZero(header.bytes()));
  }

  /**
   * A step that fails, since nobody holds its adapter, and the answer to it. As long as the driver
   * is not out of the epoch before, another step is tried.
   */
  private void failingStep(Client client, int epoch, long id) {
    long step = id;
    Received answer;
    do {
      client.connection.send(step().frame(client.connection, epoch, step));
      send(client, activations(epoch, step, 2, 0));
      answer = client.next();
      assertThat(answer.header())
          .isEqualTo(FrameHeader.of(FrameType.FAILURE, epoch, step, 0, answer.header().bytes()));
      step++;
    } while (answer.text().contains("is busy with a step that was given up"));
    assertThat(answer.text()).contains("slot 7");
  }

  @Test
  void aStepThatFailsIsAnsweredAndTheNextEpochGoesOn() {
    Client client = welcomed();
    failingStep(client, 0, 5);
    client.connection.send(FrameHeader.of(FrameType.ABANDON, 0, 5, 0, 0));
    send(client, activations(0, 5, 2, 0)); // Was under way: dropped.
    client.connection.send(step().frame(client.connection, 0, 6)); // Likewise.
    failingStep(client, 1, 7);
    assertThat(client.received).isEmpty();
  }

  @Test
  void memoryGoesOnToTheNextSession() {
    for (int session = 0; session < 3; session++) {
      Client client = welcomed();
      failingStep(client, 0, 0);
      client.connection.close();
      client.awaitClosed();
    }
  }

  @Test
  void whoDoesNotKeepToTheProtocolIsDisconnectedAndNobodyElse() {
    Client neighbour = welcomed();
    List<Consumer<Client>> offences =
        List.of(
            c -> send(c, activations(0, 0, 2, 0)), // Of no step.
            c -> c.connection.send(hello().frame(c.connection)),
            c -> send(c, FrameHeader.of(FrameType.WELCOME, 0, 0, 0, 0)),
            c -> send(c, FrameHeader.of(FrameType.ABANDON, 0, 0, 0, 3)),
            c -> send(c, FrameHeader.of(FrameType.ABANDON, 1, 0, 0, 0)),
            c -> send(c, FrameHeader.of(FrameType.STEP, 0, 0, 0, 16)),
            c -> send(c, FrameHeader.of(FrameType.STEP, 0, 0, 2, 16)),
            c -> send(c, FrameHeader.of(FrameType.STEP, 0, 0, ROWS + 1, 24)),
            c -> send(c, FrameHeader.of(FrameType.STEP, 0, 0, 2, 100_000)),
            c -> {
              c.connection.send(step().frame(c.connection, 0, 3));
              c.connection.send(step().frame(c.connection, 0, 3));
            },
            c -> {
              c.connection.send(step().frame(c.connection, 0, 0));
              send(c, activations(0, 0, 2, 2));
            },
            c -> {
              c.connection.send(step().frame(c.connection, 0, 0));
              send(c, activations(0, 0, 1, 0));
            },
            c -> {
              c.connection.send(step().frame(c.connection, 0, 0));
              send(c, activations(0, 1, 2, 0));
            },
            c -> {
              ByteBuf frame = c.connection.frame(activations(0, 0, 2, 0));
              frame.setIntLE(24, Integer.MAX_VALUE);
              c.connection.send(frame);
            });
    for (int i = 0; i < offences.size(); i++) {
      Client offender = welcomed();
      offences.get(i).accept(offender);
      try {
        offender.awaitClosed();
      } catch (RuntimeException e) {
        throw new AssertionError("offence " + i + " is suffered", e);
      }
    }
    failingStep(neighbour, 0, 0);
  }

  @Test
  void whoSaysSomethingElseThanHelloIsDisconnected() {
    CompletableFuture<Void> closed = new CompletableFuture<>();
    await(
        clients
            .connect(server.address().port(), server.address().host())
            .onSuccess(
                socket -> {
                  socket.closeHandler(v -> closed.complete(null));
                  socket.write(Buffer.buffer(GARBAGE));
                }));
    closed.orTimeout(30, TimeUnit.SECONDS).join();

    Client early = connect();
    send(early, activations(0, 0, 2, 0));
    early.awaitClosed();
    failingStep(welcomed(), 0, 0);
  }
}
