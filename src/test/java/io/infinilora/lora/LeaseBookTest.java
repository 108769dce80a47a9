package io.infinilora.lora;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.adapter.AdapterGeneration;
import io.infinilora.adapter.AdapterTiers;
import io.infinilora.adapter.ClaimListener;
import io.infinilora.adapter.ResidentAdapter;
import io.infinilora.adapter.SourceResolver;
import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.config.Eviction;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What silent base models hold is given back, by a clock of the test's. */
class LeaseBookTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final long PATIENCE = 100;
  private static final ClaimListener NOBODY =
      new ClaimListener() {
        @Override
        public void admissible(ResidentAdapter adapter) {}

        @Override
        public void failed(InfiniLoraException cause) {}

        @Override
        public void revoked() {}
      };

  private final Backend backend = new CpuBackend();
  private AdapterTiers tiers;
  private LeaseBook book;
  private AdapterGeneration adapter;

  @BeforeEach
  void open() {
    try (Checkpoint checkpoint = Checkpoints.open(MODEL)) {
      tiers =
          new AdapterTiers(
              "test",
              checkpoint.spec(),
              LoraShard.WHOLE,
              backend,
              new AdapterBudgets(4 << 20, 0, Eviction.LRU),
              SourceResolver.DIRECTORIES,
              task -> {}, // Nothing becomes ready: claims are held all the same.
              Runnable::run,
              () -> 0);
    }
    adapter =
        tiers
            .read(AdapterRegistration.own("a0", MODEL.resolve("adapters/a0").toString()))
            .generation();
    tiers.publish(adapter);
    book = new LeaseBook(tiers, PATIENCE);
  }

  @AfterEach
  void close() {
    tiers.close();
    backend.close();
  }

  private long lease(String session, long now) {
    long lease = book.next();
    book.open(session, lease, tiers.claim(adapter.id(), now, now + 1_000_000, NOBODY), now);
    return lease;
  }

  private int claims() {
    return tiers.status(adapter).claims();
  }

  @Test
  void leasesOfASilentBaseEndAndThoseOfOthersStay() {
    lease("silent", 0);
    lease("silent", 10);
    lease("alive", 10);
    book.renew("alive", 60);

    assertThat(book.expire(10 + PATIENCE)).isZero();
    assertThat(claims()).isEqualTo(3);
    assertThat(book.expire(10 + PATIENCE + 1)).isEqualTo(2);
    assertThat(claims()).isEqualTo(1);
    assertThat(book.size()).isEqualTo(1);
    assertThat(book.expire(60 + PATIENCE)).isZero();
    assertThat(book.expire(60 + PATIENCE + 1)).isEqualTo(1);
    assertThat(claims()).isZero();
  }

  @Test
  void anewLeaseIsASignOfLife() {
    lease("base", 0);
    lease("base", 80);

    assertThat(book.expire(80 + PATIENCE)).isZero();
    assertThat(book.expire(80 + PATIENCE + 1)).isEqualTo(2);
  }

  @Test
  void whoHoldsNothingCannotBeRenewed() {
    book.renew("base", 500);
    lease("base", 0);

    assertThat(book.expire(PATIENCE + 1)).isEqualTo(1);
  }

  @Test
  void aSessionEndsAlone() {
    long first = lease("base/1", 0);
    lease("base/1", 0);
    lease("base/2", 0);

    book.close("base/2", first); // Of another session: passed over.
    assertThat(claims()).isEqualTo(3);
    book.close("base/1", first);
    assertThat(claims()).isEqualTo(2);
    assertThat(book.closeAll("base/1")).isEqualTo(1);
    assertThat(claims()).isEqualTo(1);
    assertThat(book.closeAll("base/1")).isZero();
  }
}
