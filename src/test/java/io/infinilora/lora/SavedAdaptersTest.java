package io.infinilora.lora;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.adapter.SourceResolver;
import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.config.Eviction;
import io.infinilora.core.AdapterAdmin.WhenInUse;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoad;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraShard;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.LoraMetrics;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.infinilora.wire.AdapterCall;
import io.infinilora.wire.AdapterChange;
import io.infinilora.wire.BusAdapterAdmin;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.WireCodecs;
import io.smallrye.mutiny.Uni;
import io.vertx.core.Deployable;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.MessageConsumer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What was registered outlives all shards and their coordinator. */
class SavedAdaptersTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final LoraGrid GRID = new LoraGrid(1, 2);
  private static final AdapterCall LISTING = new AdapterCall.Listing();

  @TempDir private Path root;
  private final EventLoopWatch watch = new EventLoopWatch();
  private final Vertx vertx = watch.vertx();
  private final Checkpoint checkpoint = Checkpoints.open(MODEL);
  private final Backend backend = new CpuBackend();
  private final BusAdapterAdmin admin = new BusAdapterAdmin(vertx.eventBus());
  private final List<String> deployed = new ArrayList<>();
  private final BlockingQueue<AdapterChange> changes = new LinkedBlockingQueue<>();

  /** Sources are names of directories below the root. */
  private final SourceResolver below = (source, trusted) -> root.resolve(source);

  @BeforeEach
  void start() throws IOException {
    for (String name : List.of("a0", "a1", "a2")) {
      copy(name, name);
    }
    WireCodecs.registerAll(vertx.eventBus());
    begin();
  }

  private void copy(String adapter, String to) throws IOException {
    Path directory = Files.createDirectories(root.resolve(to));
    for (String file : List.of("adapter_config.json", "adapter_model.safetensors")) {
      Files.write(
          directory.resolve(file),
          Files.readAllBytes(MODEL.resolve("adapters").resolve(adapter).resolve(file)));
    }
  }

  private void begin() {
    GRID.shards().forEach(shard -> deploy(shard(shard)));
    deploy(new LoraServerVerticle(GRID));
  }

  private void endAll() {
    deployed.reversed().forEach(id -> await(vertx.undeploy(id)));
    deployed.clear();
  }

  private LoraShardVerticle shard(LoraShard shard) {
    return new LoraShardVerticle(
        checkpoint.spec(),
        shard,
        backend,
        new AdapterBudgets(16 << 20, 0, Eviction.LRU),
        1,
        below,
        LoraMetrics.NONE,
        Optional.empty());
  }

  private MessageConsumer<AdapterChange> listen() {
    MessageConsumer<AdapterChange> consumer =
        vertx.eventBus().consumer(LoraAddresses.CHANGES, m -> changes.add(m.body()));
    await(consumer.completion());
    return consumer;
  }

  private void deploy(Deployable verticle) {
    deployed.add(await(vertx.deployVerticle(verticle)));
  }

  /** Everything ends and begins again; returns as many changes as that is to cause. */
  private List<AdapterChange> restart(int expected) throws InterruptedException {
    endAll();
    MessageConsumer<AdapterChange> consumer = listen();
    begin();
    List<AdapterChange> seen = new ArrayList<>();
    for (int i = 0; i < expected; i++) {
      seen.add(changes.poll(1, TimeUnit.MINUTES));
    }
    await(consumer.unregister());
    return seen;
  }

  @AfterEach
  void stop() {
    await(vertx.close());
    backend.close();
    checkpoint.close();
    watch.assertSilent();
  }

  private AdapterId load(String name, String source) {
    return await(admin.load(new AdapterRegistration(name, source, false, false))).status().id();
  }

  private List<AdapterStatus> list() {
    return await(admin.list());
  }

  @Test
  void adaptersComeBackInOrderWithTheirPins() throws InterruptedException {
    load("z", "a2");
    load("x", "a0");
    load("y", "a1");
    await(admin.pin("x", true));
    List<AdapterStatus> before = list();

    restart(3);

    await(admin.pin("y", false)); // Comes after the pins of the restoration on each shard.
    assertThat(list())
        .extracting(AdapterStatus::id)
        .containsExactlyElementsOf(before.stream().map(AdapterStatus::id).toList());
    assertThat(list()).extracting(AdapterStatus::pinned).containsExactly(false, true, false);
  }

  @Test
  void otherContentIsUnloadedForGood() throws InterruptedException, IOException {
    load("x", "a0");
    AdapterId kept = load("y", "a1");
    copy("a2", "a0");

    List<AdapterChange> seen = restart(2);

    assertThat(seen.getFirst().name()).isEqualTo("x");
    assertThat(seen.getFirst().adapter()).isNull();
    assertThat(seen.getLast().adapter().id()).isEqualTo(kept);
    copy("a0", "a0");
    restart(1);
    assertThat(list()).extracting(AdapterStatus::id).containsExactly(kept);
  }

  @Test
  void anAdapterWhoseFilesAreGoneIsOutOfServiceUntilTheyAreBack()
      throws InterruptedException, IOException {
    AdapterId id = load("x", "a0");
    Files.delete(root.resolve("a0/adapter_model.safetensors"));
    MessageConsumer<AdapterChange> consumer = listen();

    restartAShard();
    AdapterChange gone = changes.poll(1, TimeUnit.MINUTES);
    assertThat(gone).isEqualTo(new AdapterChange(gone.version(), "x", null));
    assertThat(list()).isEmpty();

    copy("a0", "a0");
    restartAShard();
    AdapterChange change = gone;
    while (change.adapter() == null) { // It may be said more than once that it is gone.
      change = changes.poll(1, TimeUnit.MINUTES);
    }
    assertThat(change.adapter().id()).isEqualTo(id);
    await(consumer.unregister());
  }

  @Test
  void adaptersWaitUntilAllShardsAreThere() throws InterruptedException {
    AdapterId id = load("x", "a0");
    endAll();
    MessageConsumer<AdapterChange> consumer = listen();
    deploy(shard(GRID.shards().getFirst()));
    deploy(new LoraServerVerticle(GRID));
    // Whoever asks must not take adapters for gone that are not restored yet.
    assertThatThrownBy(() -> await(vertx.eventBus().request(LoraAddresses.ADMIN, LISTING)))
        .hasMessageContaining("No handlers");
    Promise<Void> answers = Promise.promise();
    vertx.eventBus().consumer(LoraAddresses.COORDINATORS, message -> answers.tryComplete());

    deploy(shard(GRID.shards().getLast()));

    assertThat(changes.poll(1, TimeUnit.MINUTES).adapter().id()).isEqualTo(id);
    await(answers.future());
    assertThat(list()).extracting(AdapterStatus::id).containsExactly(id);
    await(consumer.unregister());
  }

  private void restartAShard() {
    await(vertx.undeploy(deployed.removeFirst()));
    deploy(shard(GRID.shards().getFirst()));
    deployed.addFirst(deployed.removeLast());
  }

  @Test
  void whatWasUnloadedOrOnlyTriedDoesNotComeBack() throws InterruptedException {
    load("x", "a0");
    load(AdapterLoad.dryRunName(), "a2");
    load("y", "a1");
    await(admin.unload("x", WhenInUse.WAIT));

    // Restored in order, so whatever came back besides would be seen before.
    assertThat(restart(1)).extracting(AdapterChange::name).containsExactly("y");

    assertThat(list()).extracting(s -> s.id().name()).containsExactly("y");
  }

  @Test
  void aLoadAfterARestartWins() throws InterruptedException {
    AdapterId old = load("x", "a0");
    await(admin.pin("x", true));
    restart(0);

    AdapterId fresh = load("x", "a1");

    assertThat(fresh).isNotEqualTo(old);
    assertThat(list()).extracting(AdapterStatus::id).containsExactly(fresh);
    restart(1);
    await(admin.prefetch("x"));
    assertThat(list()).extracting(AdapterStatus::id).containsExactly(fresh);
    // A pin is that of a generation; whoever wants the next one pinned says so.
    assertThat(list()).extracting(AdapterStatus::pinned).containsExactly(false);
  }

  @Test
  void anUnloadBeforeTheRestorationIsHeard() throws InterruptedException {
    for (int i = 0; i < 20; i++) {
      load("x" + i, "a0");
    }
    restart(0);

    await(admin.unload("x19", WhenInUse.WAIT));

    assertThatThrownBy(() -> await(admin.prefetch("x19"))).hasMessageContaining("x19");
    restart(19);
    assertThat(list()).hasSize(19);
  }

  private static <T> T await(Uni<T> uni) {
    return uni.await().atMost(Duration.ofMinutes(1));
  }

  private static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().orTimeout(60, TimeUnit.SECONDS).join();
  }
}
