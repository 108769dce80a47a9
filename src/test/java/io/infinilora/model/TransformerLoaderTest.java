package io.infinilora.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import java.io.IOException;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TransformerLoaderTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/llama");

  /** The checkpoint, but every layer's weights are at fault. */
  private static Checkpoint broken(Checkpoint checkpoint, Set<Thread> threads) {
    return (Checkpoint)
        Proxy.newProxyInstance(
            Checkpoint.class.getClassLoader(),
            new Class<?>[] {Checkpoint.class},
            (proxy, method, args) -> {
              if (method.getName().equals("vector") && args[0].toString().contains("MLP_NORM")) {
                threads.add(Thread.currentThread());
                throw new InfiniLoraException(ErrorCode.BAD_MODEL_FILE, "layer " + args[1]);
              }
              try {
                return method.invoke(checkpoint, args);
              } catch (InvocationTargetException e) {
                throw e.getCause();
              }
            });
  }

  /** Weights that are gone when they are looked at. */
  @Test
  void filesThatAreCutMeanwhileAreFaultsOfTheTensor(@TempDir Path folder) throws IOException {
    for (String file : List.of("config.json", "model.safetensors")) {
      Files.copy(MODEL.resolve(file), folder.resolve(file));
    }
    Path weights = folder.resolve("model.safetensors");
    try (Checkpoint checkpoint = Checkpoints.open(folder);
        Backend backend = new CpuBackend()) {
      try (FileChannel channel = FileChannel.open(weights, StandardOpenOption.WRITE)) {
        channel.truncate(4096);
      }
      assertThatThrownBy(() -> TransformerLoader.load(checkpoint, backend))
          .isInstanceOfSatisfying(
              InfiniLoraException.class,
              e -> assertThat(e.code()).isEqualTo(ErrorCode.BAD_MODEL_FILE))
          .hasMessageStartingWith(weights + ": tensor model.layers.0.")
          .hasMessageContaining("cannot be read where it is mapped");
    }
  }

  @Test
  void theFirstLayersFaultIsThrownAndNoPackerIsLeft() throws InterruptedException {
    Set<Thread> threads = ConcurrentHashMap.newKeySet();
    try (Checkpoint checkpoint = Checkpoints.open(MODEL);
        Backend backend = new CpuBackend()) {
      assertThat(checkpoint.spec().layers()).isGreaterThan(1);
      Checkpoint broken = broken(checkpoint, threads);
      assertThatThrownBy(() -> TransformerLoader.load(broken, backend))
          .isInstanceOf(InfiniLoraException.class)
          .hasMessage("layer 0");
      assertThat(threads).isNotEmpty();
      for (Thread thread : threads) {
        assertThat(thread.join(Duration.ofMinutes(1))).as("%s ends", thread).isTrue();
      }
    }
  }
}
