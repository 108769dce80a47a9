package io.infinilora.node;

import static io.infinilora.node.Generations.await;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.cuda.Gpu;
import io.infinilora.config.ByteSize;
import io.infinilora.config.ClusterConfig;
import io.infinilora.config.DeviceConfig;
import io.infinilora.config.DeviceKind;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.HubConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.LoraConfig;
import io.infinilora.config.Role;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.core.WeightSource;
import io.infinilora.fake.StepGate;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.EngineMetrics;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Weights that are finite, and so large that logits are not, harm nobody but their own requests.
 */
class OverflowingAdapterTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final String WEIGHTS = "adapter_model.safetensors";

  private static final int TOKENS = 30;

  /** 2 to the 100th as a bfloat16. */
  private static final short HUGE = 0x7180;

  @TempDir Path adapters;

  private final EventLoopWatch watch = new EventLoopWatch();
  private final StepGate gate = new StepGate(EngineMetrics.NONE);
  private Node node;

  @AfterEach
  void stop() {
    gate.open();
    if (node != null) {
      await(node.close());
    }
    watch.assertSilent();
  }

  private void copy(String from, String to) throws IOException {
    Path folder = Files.createDirectory(adapters.resolve(to));
    for (String file : List.of("adapter_config.json", WEIGHTS)) {
      Files.copy(MODEL.resolve("adapters").resolve(from).resolve(file), folder.resolve(file));
    }
  }

  /** Every weight, all of which are bfloat16, becomes huge and keeps its sign. */
  private void blowUp(String name) throws IOException {
    Path file = adapters.resolve(name).resolve(WEIGHTS);
    ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    for (int at = 8 + (int) bytes.getLong(0); at < bytes.capacity(); at += 2) {
      bytes.putShort(at, (short) (bytes.getShort(at) & 0x8000 | HUGE));
    }
    Files.write(file, bytes.array());
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void takesDownItsOwnRequestsOnly(LoraMode mode) throws IOException {
    start(mode, DeviceConfig.DEFAULTS);
    List<Integer> base = greedy(Optional.empty()).join();
    List<Integer> sound = greedy(Optional.of("sound")).join();

    Neighbours neighbours = meetTheCulprit();

    assertThat(neighbours.base().join()).isEqualTo(base);
    assertThat(neighbours.sound().join()).isEqualTo(sound);
  }

  /** Bits of a row depend on its neighbours there, so tokens are only counted. */
  @Tag("gpu")
  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void takesDownItsOwnRequestsOnlyOnAGpu(LoraMode mode) throws IOException {
    Gpu.require();
    start(mode, new DeviceConfig(DeviceKind.CUDA, 0, Optional.of(ByteSize.mebibytes(2048))));

    Neighbours neighbours = meetTheCulprit();

    assertThat(neighbours.base().join()).hasSize(TOKENS);
    assertThat(neighbours.sound().join()).hasSize(TOKENS);
  }

  private void start(LoraMode mode, DeviceConfig device) throws IOException {
    copy("a1", "sound");
    copy("a2", "huge");
    blowUp("huge");
    InfiniLoraConfig config =
        new InfiniLoraConfig(
            Optional.of(new WeightSource.Local(MODEL)),
            Optional.of(adapters),
            Map.of(),
            mode,
            Role.ALL,
            ServerConfig.DEFAULTS,
            EngineConfig.DEFAULTS,
            LoraConfig.DEFAULTS,
            HubConfig.DEFAULTS,
            device,
            ClusterConfig.DEFAULTS);
    node = await(Node.start(watch.vertx(), config, gate));
  }

  private record Neighbours(
      CompletableFuture<List<Integer>> base, CompletableFuture<List<Integer>> sound) {}

  /** Requests that are computed together with ones for the huge adapter, which are refused. */
  private Neighbours meetTheCulprit() {
    assertRefused(greedy(Optional.of("huge")));
    gate.allow(0);
    CompletableFuture<List<Integer>> base = greedy(Optional.empty());
    gate.awaitHeld();
    CompletableFuture<List<Integer>> sound = greedy(Optional.of("sound"));
    CompletableFuture<List<Integer>> culprit = greedy(Optional.of("huge"));
    gate.open();
    assertRefused(culprit);
    return new Neighbours(base, sound);
  }

  private CompletableFuture<List<Integer>> greedy(Optional<String> adapter) {
    return Generations.greedy(node.engine(), new int[] {5, 6, 7, 8}, adapter, TOKENS);
  }

  private static void assertRefused(CompletableFuture<List<Integer>> request) {
    assertThatThrownBy(request::join)
        .isInstanceOf(CompletionException.class)
        .cause()
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.BAD_ADAPTER))
        .hasMessageContainingAll("adapter huge", "NaN");
  }
}
