package io.infinilora.wire;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;

import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Nobody touches the memory of a step that was given up once it serves another. */
class LoraExchangeTest {
  private static final InfiniLoraException CAUSE =
      new InfiniLoraException(ErrorCode.UNAVAILABLE, "given up");

  private final Backend backend = new CpuBackend();
  private LoraExchange exchange;

  @BeforeEach
  void allocate() {
    try (Checkpoint checkpoint = Checkpoints.open(Path.of("src/test/resources/fixtures/qwen3"))) {
      exchange = new LoraExchange(backend, checkpoint.spec(), LoraShard.WHOLE, 8);
    }
  }

  @AfterEach
  void free() {
    backend.close();
  }

  @Test
  void aServerComesAndGoesWhileItIsOpen() {
    assertThat(exchange.enter()).isTrue();
    exchange.leave();
    assertThat(exchange.enter()).isTrue();
    exchange.leave();
    assertThat(exchange.isOpen()).isTrue();
    assertThat(exchange.isQuiet()).isFalse();
    assertThat(exchange.closedBy()).isNull();
  }

  @Test
  void nobodyEntersAClosedOneAndItsMemoryIsUsedAtOnce() {
    exchange.computed().release(exchange.lastValue(3));
    exchange.close(CAUSE);

    assertThat(exchange.enter()).isFalse();
    assertThat(exchange.isOpen()).isFalse();
    LoraExchange next = exchange.reopened();
    assertThat(next.computed().value()).isEqualTo(exchange.lastValue(3));
    assertThat(next.enter()).isTrue();
    assertThat(exchange.enter()).isFalse();
  }

  @Test
  void memoryWithAServerInItIsNotUsedUntilItHasLeft() {
    assertThat(exchange.enter()).isTrue();
    exchange.close(CAUSE);

    assertThat(exchange.isQuiet()).isFalse();
    assertThatIllegalStateException().isThrownBy(exchange::reopened);
    assertThat(exchange.enter()).isFalse();
    exchange.leave();
    assertThat(exchange.isQuiet()).isTrue();
    assertThat(exchange.enter()).isFalse();
    assertThat(exchange.reopened().enter()).isTrue();
  }

  @Test
  void theFirstCauseStays() {
    exchange.close(CAUSE);
    exchange.close(new InfiniLoraException(ErrorCode.INTERNAL, "later"));

    assertThat(exchange.closedBy()).isSameAs(CAUSE);
    assertThat(exchange.isQuiet()).isTrue();
  }
}
