package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.AppenderBase;
import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.Eviction;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.LoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.ShardCall;
import io.infinilora.wire.ShardNotice;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.DeliveryContext;
import io.vertx.core.eventbus.ReplyException;
import io.vertx.core.eventbus.ReplyFailure;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.LoggerFactory;

/** A new generation that one shard takes and the other does not: both go on with the old one. */
class HalfCommitTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final AtomicInteger IDS = new AtomicInteger();

  private final Vertx vertx = Vertx.vertx();
  private Node node;

  /** The shard that has forgotten what it prepared when it is to commit; -1 for none. */
  private volatile int forgetful = -1;

  /** The shard that no taking back of a commit reaches; -1 for none. */
  private volatile int expelled = -1;

  @BeforeEach
  void start() {
    node = await(Node.start(vertx, settings(), EngineMetrics.NONE));
    vertx.eventBus().addOutboundInterceptor(this::intercept);
  }

  @AfterEach
  void stop() {
    await(node.close());
  }

  private void intercept(DeliveryContext<Object> context) {
    if (context.body() instanceof ShardCall.Commit commit
        && forgetful >= 0
        && context.message().address().equals(address(forgetful))) {
      vertx.eventBus().send(context.message().address(), new ShardCall.Abort(commit.id()));
    }
    if (context.body() instanceof ShardCall.Revert
        && expelled >= 0
        && context.message().address().equals(address(expelled))) {
      // What a sender hears when a cluster has expelled the only consumer.
      context.message().reply(new ReplyException(ReplyFailure.NO_HANDLERS, "expelled"));
      return;
    }
    context.next();
  }

  private String address(int shard) {
    return LoraAddresses.shardAdmin(
        ShardNotice.local(vertx).stream()
            .filter(notice -> notice.shard() == shard)
            .findAny()
            .orElseThrow()
            .incarnation());
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 1})
  void bothGoOnWithTheOldGeneration(int shard) {
    load("x", "a1");
    List<AdapterId> old = at(0);
    assertThat(at(1)).isEqualTo(old);
    List<Integer> before = tokens("x");
    forgetful = shard;

    assertThatThrownBy(() -> load("x", "a2"))
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.CONFLICT));

    assertThat(at(0)).isEqualTo(old);
    assertThat(at(1)).isEqualTo(old);
    assertThat(tokens("x")).isEqualTo(before);

    forgetful = -1;
    load("x", "a2");
    assertThat(at(0)).isNotEqualTo(old).isEqualTo(at(1));
    assertThat(tokens("x")).isNotEqualTo(before);
  }

  @Test
  void aNameThatIsNewIsNotThereAfterwards() {
    forgetful = 1;

    assertThatThrownBy(() -> load("y", "a1")).isInstanceOf(InfiniLoraException.class);

    assertThat(at(0)).isEmpty();
    assertThat(at(1)).isEmpty();
    forgetful = -1;
    load("y", "a1");
    assertThat(tokens("y")).hasSize(8);
  }

  /** What is served already stays if it is loaded again and that fails. */
  @Test
  void theSameContentIsNotTakenAway() {
    load("x", "a2");
    load("x", "a1");
    List<AdapterId> served = at(0);
    forgetful = 1;

    assertThatThrownBy(() -> load("x", "a1")).isInstanceOf(InfiniLoraException.class);

    assertThat(at(0)).isEqualTo(served);
    assertThat(at(1)).isEqualTo(served);
  }

  /** It keeps what it has until it is back, and nobody needs to load the name again. */
  @Test
  void aShardThatIsExpelledMeanwhileGoesBackToTheOldGenerationWhenItReturns() {
    Future<Void> settled = settled(2);
    load("x", "a1");
    List<AdapterId> old = at(0);
    List<Integer> before = tokens("x");
    forgetful = 0;
    expelled = 1;
    assertThatThrownBy(() -> load("x", "a2")).isInstanceOf(InfiniLoraException.class);
    assertThatThrownBy(() -> load("y", "a2")).isInstanceOf(InfiniLoraException.class);
    assertThat(at(0)).isEqualTo(old);
    assertThat(at(1)).hasSize(2).doesNotContainAnyElementsOf(old);

    expelled = -1;
    await(settled);

    assertThat(at(1)).isEqualTo(old);
    assertThat(at(0)).isEqualTo(old);
    assertThat(tokens("x")).isEqualTo(before);
  }

  /** What is loaded while it is away is not taken back. */
  @Test
  void aShardThatReturnsKeepsWhatWasLoadedMeanwhile() {
    Future<Void> settled = settled(1);
    load("x", "a1");
    forgetful = 0;
    expelled = 1;
    assertThatThrownBy(() -> load("x", "a2")).isInstanceOf(InfiniLoraException.class);
    forgetful = -1;
    load("x", "a2");
    List<AdapterId> now = at(0);

    expelled = -1;
    await(settled);

    assertThat(at(0)).isEqualTo(now);
    assertThat(at(1)).isEqualTo(now);
  }

  /** Completes when so many doubtful names are settled, of which only the log tells. */
  private static Future<Void> settled(int names) {
    Promise<Void> settled = Promise.promise();
    AtomicInteger left = new AtomicInteger(names);
    Logger log = (Logger) LoggerFactory.getLogger("io.infinilora.lora.Restoration");
    AppenderBase<ILoggingEvent> appender =
        new AppenderBase<>() {
          @Override
          protected void append(ILoggingEvent event) {
            if (event.getMessage().contains("has what is served") && left.decrementAndGet() == 0) {
              settled.tryComplete();
            }
          }
        };
    appender.start();
    log.setLevel(Level.INFO);
    log.addAppender(appender);
    return settled
        .future()
        .onComplete(
            v -> {
              log.detachAppender(appender);
              log.setLevel(null);
            });
  }

  private void load(String name, String adapter) {
    node.engine()
        .adapterAdmin()
        .load(AdapterRegistration.own(name, MODEL.resolve("adapters/" + adapter).toString()))
        .await()
        .atMost(Duration.ofMinutes(1));
  }

  private List<AdapterId> at(int shard) {
    return await(vertx.eventBus().<AdapterListing>request(address(shard), new ShardCall.Places()))
        .body()
        .adapters()
        .stream()
        .map(adapter -> adapter.id())
        .sorted(Comparator.comparing(AdapterId::name))
        .toList();
  }

  private List<Integer> tokens(String adapter) {
    return node.engine()
        .generate(
            new GenerateRequest(
                "r" + IDS.incrementAndGet(),
                new Random(5).ints(20, 3, node.engine().model().vocab()).toArray(),
                Optional.of(adapter),
                SamplingParams.greedy(8).ignoringEos()))
        .filter(TokenEvent.Token.class::isInstance)
        .map(event -> ((TokenEvent.Token) event).token())
        .collect()
        .asList()
        .await()
        .atMost(Duration.ofMinutes(1));
  }

  private static InfiniLoraConfig settings() {
    return new InfiniLoraConfig(
            Optional.of(MODEL),
            Optional.empty(),
            LoraMode.DISAGGREGATED,
            ServerConfig.DEFAULTS,
            new EngineConfig(
                Optional.of(1),
                Optional.of(1),
                Optional.empty(),
                ByteSize.mebibytes(1),
                2,
                8,
                64,
                16,
                false,
                EngineConfig.DEFAULT_POLICY,
                Duration.ofSeconds(60)))
        .withLora(
            new LoraConfig(
                ByteSize.mebibytes(16),
                new ByteSize(0),
                Eviction.LRU,
                LoraGrid.parse("1x2"),
                Duration.ofSeconds(60),
                LoraConfig.DEFAULT_RETRY_FOR));
  }

  private static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().orTimeout(60, TimeUnit.SECONDS).join();
  }
}
