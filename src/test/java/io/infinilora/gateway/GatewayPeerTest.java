package io.infinilora.gateway;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.GenerateRequest;
import io.infinilora.core.SamplingParams;
import io.infinilora.fake.FakeEngine;
import io.infinilora.fake.Script;
import io.infinilora.wire.BaseAddresses;
import io.infinilora.wire.BaseCall;
import io.infinilora.wire.StreamMessage;
import io.infinilora.wire.StreamPart;
import io.infinilora.wire.WireCodecs;
import io.vertx.core.Vertx;
import java.util.ArrayDeque;
import java.util.Optional;
import java.util.Queue;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** What comes up at the same moment leaves in one message. */
class GatewayPeerTest {
  private final Vertx vertx = Vertx.vertx();
  private final UUID gateway = UUID.randomUUID();
  private final Queue<Runnable> loop = new ArrayDeque<>();
  private final BlockingQueue<StreamMessage> messages = new LinkedBlockingQueue<>();
  private final FakeEngine engine = new FakeEngine().plays(Script.tokens(5, 6, 7));

  @AfterEach
  void close() {
    Cluster.await(vertx.close());
  }

  private StreamMessage next() throws InterruptedException {
    return messages.poll(1, TimeUnit.MINUTES);
  }

  private void turn() {
    while (!loop.isEmpty()) {
      loop.remove().run();
    }
  }

  @Test
  void tokensOfSeveralStreamsTravelTogether() throws InterruptedException {
    WireCodecs.registerAll(vertx.eventBus());
    Cluster.await(
        vertx
            .eventBus()
            .<StreamMessage>consumer(BaseAddresses.streams(gateway), m -> messages.add(m.body()))
            .completion());
    GatewayPeer peer =
        new GatewayPeer(UUID.randomUUID(), gateway, vertx.eventBus(), loop::add, () -> {});
    for (long stream = 0; stream < 3; stream++) {
      BaseCall.Generate call =
          new BaseCall.Generate(
              gateway,
              stream,
              2,
              new GenerateRequest(
                  "r" + stream, new int[] {1}, Optional.empty(), SamplingParams.greedy(9)));
      peer.open(call).begin(engine, call.request(), 2);
      assertThat(peer.open(call)).isNull();
    }
    turn();
    StreamMessage.Parts first = (StreamMessage.Parts) next();
    assertThat(first.parts()).extracting(StreamPart::stream).containsExactly(0L, 1L, 2L);
    assertThat(first.parts()).allSatisfy(part -> assertThat(part.tokens()).containsExactly(5, 6));

    peer.credit(1, 9);
    peer.credit(2, 9);
    turn();
    StreamMessage.Parts second = (StreamMessage.Parts) next();
    assertThat(second.parts()).extracting(StreamPart::stream).containsExactly(1L, 2L);
    assertThat(second.parts())
        .allSatisfy(
            part -> {
              assertThat(part.sequence()).isEqualTo(1);
              assertThat(part.firstIndex()).isEqualTo(2);
              assertThat(part.tokens()).containsExactly(7);
              assertThat(part.end().finished().outputTokens()).isEqualTo(3);
            });

    peer.ping(new BaseCall.Ping(gateway, new long[] {0, 1}, new long[] {2, 9}));
    StreamMessage.Pong pong = (StreamMessage.Pong) next();
    assertThat(pong.sent()).containsExactly(1, -1);
  }
}
