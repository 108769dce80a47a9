package io.infinilora.adapter;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.Backend;
import io.infinilora.backend.LoraMemory;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraShard;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What the loader does with files, by files of the test's. */
class AdapterLoaderTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");

  private final Backend backend = new CpuBackend();
  private final CompletableFuture<Void> otherStarted = new CompletableFuture<>();
  private final CompletableFuture<Void> otherOpened = new CompletableFuture<>();
  private final CompletableFuture<Void> goOn = new CompletableFuture<>();
  private final CompletableFuture<Void> closed = new CompletableFuture<>();
  private Checkpoint checkpoint;
  private LoraMemory memory;
  private AdapterLoader loader;

  @BeforeEach
  void open() {
    checkpoint = Checkpoints.open(MODEL);
    memory = backend.loraMemory(4 << 20);
    loader =
        new AdapterLoader(
            "test-loader",
            backend,
            memory,
            generation ->
                switch (generation.id().name()) {
                  case "first" -> first(generation);
                  case "torn" -> torn();
                  case "stuck" -> stuck(generation);
                  default -> other();
                },
            0,
            new ResidentAdapters(),
            report -> {},
            Runnable::run,
            () -> TimeUnit.HOURS.toNanos(1)); // So what is begun can wait for what is not.
  }

  @AfterEach
  void close() {
    goOn.complete(null);
    loader.close();
    memory.close();
    backend.close();
    checkpoint.close();
  }

  private AdapterGeneration generation(String name) {
    return AdapterFiles.read(
            name, MODEL.resolve("adapters/a0"), checkpoint.spec(), LoraShard.WHOLE, backend)
        .generation();
  }

  private OpenAdapter first(AdapterGeneration generation) {
    OpenAdapter file = AdapterFiles.open(generation, checkpoint.spec(), LoraShard.WHOLE);
    return new OpenAdapter() {
      @Override
      public LayerFactors layer(int layer) {
        otherStarted.join();
        return file.layer(layer);
      }

      @Override
      public void close() {
        file.close();
        closed.complete(null);
      }
    };
  }

  /** Holds the loader's thread. */
  private OpenAdapter other() {
    otherOpened.complete(null);
    goOn.join();
    throw new IllegalStateException("not loaded by this test");
  }

  /** Can neither be read nor closed. */
  private static OpenAdapter torn() {
    return new OpenAdapter() {
      @Override
      public LayerFactors layer(int layer) {
        throw new IllegalStateException("torn");
      }

      @Override
      public void close() {
        throw new IllegalStateException("torn, too");
      }
    };
  }

  /** Can be read to its end, but not closed. */
  private OpenAdapter stuck(AdapterGeneration generation) {
    OpenAdapter file = AdapterFiles.open(generation, checkpoint.spec(), LoraShard.WHOLE);
    return new OpenAdapter() {
      @Override
      public LayerFactors layer(int layer) {
        return file.layer(layer);
      }

      @Override
      public void close() {
        file.close();
        throw new IllegalStateException("stuck");
      }
    };
  }

  @Test
  void anAdapterIsThereThoughItsFileCannotBeClosed() {
    ResidentAdapter stuck = loader.start(generation("stuck"), true);
    loader.start(generation("other"), false);
    otherOpened.orTimeout(10, TimeUnit.SECONDS).join();

    assertThat(stuck.complete()).isTrue();
  }

  @Test
  void aFileThatCannotBeClosedDoesNotKeepLaterLoadsWaiting() {
    loader.start(generation("torn"), true);
    loader.start(generation("other"), false);

    otherOpened.orTimeout(10, TimeUnit.SECONDS).join();
  }

  @Test
  void theFileOfALoadThatIsGivenUpBetweenTwoLayersIsClosed() {
    ResidentAdapter first = loader.start(generation("first"), false);
    loader.start(generation("other"), false);
    otherStarted.complete(null);
    otherOpened.orTimeout(60, TimeUnit.SECONDS).join();
    assertThat(first.complete()).isFalse();
    assertThat(closed).isNotDone();

    loader.free(first);
    goOn.complete(null);

    closed.orTimeout(60, TimeUnit.SECONDS).join();
  }
}
