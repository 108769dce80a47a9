package io.infinilora.lora;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.adapter.SourceResolver;
import io.infinilora.backend.Backend;
import io.infinilora.backend.LoraMemory;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.config.Eviction;
import io.infinilora.core.AdapterMemoryStats;
import io.infinilora.core.LoraShard;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.LoraMetrics;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** A LoRA shard that does not come to serve. */
class LoraShardLifeTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");

  private final EventLoopWatch watch = new EventLoopWatch();
  private final Vertx vertx = watch.vertx();
  private final Checkpoint checkpoint = Checkpoints.open(MODEL);
  private final Backend backend = new CpuBackend();
  private final AtomicInteger open = new AtomicInteger();

  @AfterEach
  void stop() {
    await(vertx.close());
    backend.close();
    checkpoint.close();
    watch.assertSilent();
  }

  @Test
  void aDeviceThatOpensNoStreamKeepsNoMemory() {
    LoraShardVerticle shard =
        new LoraShardVerticle(
            checkpoint.spec(),
            LoraShard.WHOLE,
            withoutStreams(),
            new AdapterBudgets(1 << 20, 0, Eviction.LRU),
            1);

    assertThatThrownBy(() -> await(vertx.deployVerticle(shard))).hasMessageContaining("no stream");

    assertThat(open).hasValue(0);
  }

  @Test
  void aShardThatNobodyCanReachKeepsNothing() {
    LoraMetrics faulty =
        new LoraMetrics() {
          @Override
          public void watchMemory(String shard, Supplier<AdapterMemoryStats> stats) {
            throw new IllegalStateException("a fault after memory and thread are there");
          }
        };
    LoraShardVerticle shard =
        new LoraShardVerticle(
            checkpoint.spec(),
            LoraShard.WHOLE,
            watched(result -> {}),
            new AdapterBudgets(1 << 20, 0, Eviction.LRU),
            1,
            SourceResolver.DIRECTORIES,
            faulty,
            Optional.empty());

    assertThatThrownBy(() -> await(vertx.deployVerticle(shard))).hasMessageContaining("a fault");

    assertThat(open).hasValue(0);
  }

  private Backend withoutStreams() {
    return watched(
        method -> {
          if (method.equals("openStream")) {
            throw new IllegalStateException("no stream");
          }
        });
  }

  /** Counts what is open. */
  private Backend watched(Consumer<String> after) {
    return proxy(
        Backend.class,
        backend,
        (method, result) -> {
          after.accept(method);
          if (method.equals("loraMemory")) {
            open.incrementAndGet();
            return proxy(LoraMemory.class, (LoraMemory) result, this::closes);
          }
          if (method.equals("openStream")) {
            open.incrementAndGet();
            return proxy(OpStream.class, (OpStream) result, this::closes);
          }
          return result;
        });
  }

  private Object closes(String method, Object result) {
    if (method.equals("close")) {
      open.decrementAndGet();
    }
    return result;
  }

  private interface After {
    Object call(String method, Object result);
  }

  private static <T> T proxy(Class<T> type, T target, After after) {
    return type.cast(
        Proxy.newProxyInstance(
            LoraShardLifeTest.class.getClassLoader(),
            new Class<?>[] {type},
            (self, method, args) -> {
              try {
                return after.call(method.getName(), method.invoke(target, args));
              } catch (InvocationTargetException e) {
                throw e.getCause();
              }
            }));
  }

  private static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().orTimeout(60, TimeUnit.SECONDS).join();
  }
}
