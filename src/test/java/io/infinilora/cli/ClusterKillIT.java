package io.infinilora.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.net.http.HttpClient;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Random;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Kills processes of a cluster in the middle of streams, one after the other, while clients go on
 * asking. No stream may fail, nor get a wrong token, a token twice or one too few.
 *
 * <p>{@code -Dinfinilora.kills=300} kills more of them than a build has time for.
 */
class ClusterKillIT {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/llama");
  private static final String BASE_MODEL = "llama";
  private static final int KILLS = Integer.getInteger("infinilora.kills", 6);
  private static final int CLIENTS = 3;
  private static final int TOKENS = 120;
  private static final long SEED = Long.getLong("infinilora.seed", 20261125L);

  /** Something that happens now and then, on any thread. */
  private static final class Milestones {
    private long count;
    private boolean ended;

    synchronized void passed() {
      count++;
      notifyAll();
    }

    synchronized void end() {
      ended = true;
      notifyAll();
    }

    /** Waits for one from now on, or the end. */
    synchronized void awaitNext() throws InterruptedException {
      long before = count;
      while (count == before && !ended) {
        wait();
      }
    }
  }

  /** A prompt under an adapter or none. */
  private record Ask(String model, int[] prompt) {}

  private final Queue<String> wrong = new ConcurrentLinkedQueue<>();
  private final AtomicBoolean over = new AtomicBoolean();
  private final AtomicInteger streams = new AtomicInteger();

  /** Counts streams that have come half their way. */
  private final Milestones midStream = new Milestones();

  @Test
  @Timeout(value = 60, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
  void streamsOutliveTheProcessesThatComputeThem() throws Exception {
    List<String> patient =
        List.of("engine.stepDeadline=2s", "lora.retryFor=60s", "lora.adapterWait=60s");
    try (ClusterProcesses cluster = new ClusterProcesses(MODEL, patient);
        HttpClient http = HttpClient.newHttpClient()) {
      cluster.port("lora");
      start(cluster, "lora");
      start(cluster, "base-1");
      start(cluster, "base-2");
      JarProcess gateway = cluster.start("gateway", "gateway");
      for (String node : List.of("lora", "base-1", "base-2")) {
        cluster.get(node).awaitReady();
      }
      TokenStream stream = new TokenStream(http, gateway.awaitReady().url());
      List<Ask> asks = asks();
      Map<Ask, List<Integer>> expected = new ConcurrentHashMap<>();
      for (Ask ask : asks) {
        List<Integer> tokens = stream.complete(ask.model(), ask.prompt(), TOKENS, n -> {});
        assertThat(tokens).hasSize(TOKENS);
        expected.put(ask, tokens);
      }

      List<Thread> clients = new ArrayList<>();
      // One client asks for the base model alone: it must come through while adapters wait for a
      // LoRA
      // server that hangs.
      List<Ask> base = asks.stream().filter(ask -> ask.model().equals(BASE_MODEL)).toList();
      for (int i = 0; i < CLIENTS; i++) {
        Random random = new Random(SEED + i);
        List<Ask> own = i == 0 ? base : asks;
        clients.add(Thread.ofPlatform().start(() -> ask(stream, own, expected, random)));
      }
      kill(cluster);
      over.set(true);
      for (Thread client : clients) {
        client.join();
      }

      assertThat(wrong).as("after %d streams", streams.get()).isEmpty();
      assertThat(streams.get()).isGreaterThanOrEqualTo(KILLS);
      System.out.printf("%d kills, %d streams, none harmed%n", KILLS, streams.get());
    }
  }

  private static JarProcess start(ClusterProcesses cluster, String node) throws Exception {
    return node.equals("lora")
        ? cluster.start(node, "lora", "--adapters", MODEL.resolve("adapters").toString())
        : cluster.start(node, "base");
  }

  private void kill(ClusterProcesses cluster) throws Exception {
    Random random = new Random(SEED);
    List<String> victims = List.of("lora", "base-1", "base-2");
    for (int kill = 0; kill < KILLS && wrong.isEmpty(); kill++) {
      String victim = victims.get(random.nextInt(victims.size()));
      boolean hangsFirst = random.nextInt(4) == 0;
      midStream.awaitNext();
      if (hangsFirst) {
        // For the others it is there and does not answer; a later stream has to come through.
        cluster.get(victim).suspend();
        midStream.awaitNext();
      }
      cluster.get(victim).kill();
      start(cluster, victim).awaitReady();
    }
  }

  private void ask(
      TokenStream stream, List<Ask> asks, Map<Ask, List<Integer>> expected, Random random) {
    while (!over.get() && wrong.isEmpty()) {
      Ask ask = asks.get(random.nextInt(asks.size()));
      AtomicBoolean half = new AtomicBoolean();
      try {
        List<Integer> tokens =
            stream.complete(
                ask.model(),
                ask.prompt(),
                TOKENS,
                n -> {
                  if (n >= TOKENS / 2 && half.compareAndSet(false, true)) {
                    midStream.passed();
                  }
                });
        streams.incrementAndGet();
        if (!tokens.equals(expected.get(ask))) {
          wrong.add("%s: expected %s, got %s".formatted(ask.model(), expected.get(ask), tokens));
        }
      } catch (Exception e) {
        wrong.add(ask.model() + ": " + e);
      }
    }
    midStream.end(); // Nobody is to wait for streams that don't come any more.
  }

  private static List<Ask> asks() throws Exception {
    List<Ask> asks = new ArrayList<>();
    JsonNode expected = new ObjectMapper().readTree(MODEL.resolve("expected.json").toFile());
    for (JsonNode prompt : expected.get("prompts")) {
      int[] tokens = new ObjectMapper().convertValue(prompt.get("token_ids"), int[].class);
      for (String model : List.of(BASE_MODEL, "a0", "a1", "a2")) {
        asks.add(new Ask(model, tokens));
      }
    }
    return asks;
  }
}
