package io.infinilora.node;

import static io.infinilora.node.Generations.await;
import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.fake.StepGate;
import io.infinilora.gateway.BaseService;
import io.infinilora.gateway.ClusterTimes;
import io.infinilora.gateway.RoutedEngine;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.metrics.GatewayMetrics;
import io.smallrye.mutiny.helpers.test.AssertSubscriber;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.assertj.core.api.recursive.comparison.RecursiveComparisonConfiguration;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** A model's output through a gateway, with a base that ends after each of the tokens. */
class GatewayTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final int TOKENS = 8;
  private static final Duration PATIENCE = Duration.ofMinutes(1);

  private final EventLoopWatch watch = new EventLoopWatch();
  private final StepGate gate = new StepGate(EngineMetrics.NONE);
  private final BlockingQueue<String> routed = new LinkedBlockingQueue<>();
  private final Map<String, String> deployments = new HashMap<>();
  private Node node;

  @AfterEach
  void stop() {
    gate.open();
    await(node.close());
    watch.assertSilent();
  }

  private void deploy(String base) {
    deployments.put(
        base,
        await(
            watch
                .vertx()
                .deployVerticle(
                    new BaseService(base, node.engine(), 8, "qwen3", "f", ClusterTimes.DEFAULTS))));
  }

  @Test
  void aBaseMayEndAfterAnyToken() throws InterruptedException {
    node =
        await(
            Node.start(
                watch.vertx(),
                new InfiniLoraConfig(
                    Optional.of(MODEL),
                    Optional.of(MODEL.resolve("adapters")),
                    LoraMode.DISAGGREGATED,
                    ServerConfig.DEFAULTS,
                    new EngineConfig(
                        Optional.of(2),
                        Optional.of(1),
                        Optional.empty(),
                        new ByteSize(64L * 2 * 2 * 2 * 24 * 16 * Float.BYTES),
                        8,
                        64,
                        64,
                        64,
                        true,
                        EngineConfig.DEFAULT_POLICY,
                        Duration.ofSeconds(30))),
                gate));
    SamplingParams sampled =
        new SamplingParams(
            1.3, 0.95, 50, 0.01, 1.2, 0.7, 0.4, 4711, Map.of(5, 3.0), List.of(), TOKENS, true, 2);
    int[] prompt = new Random(8).ints(37, 3, 320).toArray();
    List<TokenEvent> whole = List.of();
    for (int i = 0; i < 2; i++) { // The second time, the prompt is in the prefix cache.
      whole =
          node.engine()
              .generate(new GenerateRequest("direct", prompt, Optional.of("a1"), sampled))
              .collect()
              .asList()
              .await()
              .atMost(PATIENCE);
    }
    RoutedEngine gateway =
        new RoutedEngine(
            node.engine().model(),
            "f",
            node.engine()::adapters,
            node.engine()::adapter,
            new GatewayMetrics() {
              @Override
              public void routed(String base) {
                routed.add(base);
              }
            },
            ClusterTimes.DEFAULTS);
    await(watch.vertx().deployVerticle(gateway));
    deploy("base-0");
    deploy("base-1");
    for (int tokens = 1; tokens < TOKENS; tokens++) {
      gate.allow(tokens);
      AssertSubscriber<TokenEvent> client =
          gateway
              .generate(new GenerateRequest("r" + tokens, prompt, Optional.of("a1"), sampled))
              .subscribe()
              .withSubscriber(AssertSubscriber.create(100));
      client.awaitItems(tokens, PATIENCE);
      String base = routed.poll(1, TimeUnit.MINUTES);
      await(watch.vertx().undeploy(deployments.get(base)));
      gate.open();
      client.awaitCompletion(PATIENCE);
      assertThat(client.getItems())
          .as("split %d", tokens)
          .usingRecursiveComparison(
              RecursiveComparisonConfiguration.builder()
                  .withComparatorForType(Float::compare, Float.class)
                  .build())
          .isEqualTo(whole);
      assertThat(routed.poll(1, TimeUnit.MINUTES)).isNotEqualTo(base);
      assertThat(routed).isEmpty();
      deploy(base);
    }
  }
}
