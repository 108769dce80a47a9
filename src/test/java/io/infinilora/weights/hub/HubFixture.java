package io.infinilora.weights.hub;

import io.infinilora.config.HubConfig;
import io.infinilora.config.Secret;
import io.infinilora.core.HubReference;
import io.infinilora.fake.FakeHub;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.InstantSource;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.CopyOnWriteArrayList;

/** A cache before a fake hub, with pauses that are noted and not taken. */
final class HubFixture implements AutoCloseable {
  static final String REPO = "acme/tiny";
  static final HubReference REFERENCE = HubReference.parse(REPO);

  final FakeHub server = new FakeHub(REPO);
  final List<Duration> pauses = new CopyOnWriteArrayList<>();
  final List<String> notes = new CopyOnWriteArrayList<>();
  final Path cache;
  Duration patience = Duration.ofSeconds(60);
  Optional<Secret> token = Optional.empty();
  boolean offline;
  long space = Long.MAX_VALUE;

  HubFixture(Path cache) {
    this.cache = cache;
  }

  /** A hub with the present settings. */
  Hub hub() {
    return hub(
        new HubListener() {
          @Override
          public void note(String message) {
            notes.add(message);
          }
        });
  }

  Hub hub(HubListener listener) {
    return new Hub(
        new HubConfig(server.endpoint(), Optional.of(cache), offline, token),
        listener,
        new HubRuntime(
            pauses::add,
            InstantSource.fixed(Instant.parse("2026-01-01T00:00:00Z")),
            patience,
            directory -> space));
  }

  /** Pulls the repository. */
  Path pull() {
    try (Hub hub = hub()) {
      return hub.pull(REFERENCE, List.of());
    }
  }

  /** A directory of the repository in the cache. */
  Path repo(String directory) {
    return cache.resolve("models--acme--tiny").resolve(directory);
  }

  /** Content that no other seed gives. */
  static byte[] bytes(int seed, int length) {
    byte[] bytes = new byte[length];
    new Random(seed).nextBytes(bytes);
    return bytes;
  }

  @Override
  public void close() {
    server.close();
  }
}
