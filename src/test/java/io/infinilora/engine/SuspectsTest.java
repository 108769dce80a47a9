package io.infinilora.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.AdapterId;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** Adapters of a failed step are computed one at a time, in turn with steps without any of them. */
class SuspectsTest {
  private static final AdapterId A = new AdapterId("a", "1");
  private static final AdapterId B = new AdapterId("b", "2");
  private static final AdapterId C = new AdapterId("c", "3");

  private final Suspects suspects = new Suspects();

  @Test
  void probesOneAtATimeBetweenStepsWithoutThem() {
    suspects.failed(Set.of(A, B), 0);
    int probes = 0;
    for (int step = 0; step < 4; step++) {
      boolean probe = suspects.probeNext(id -> true);
      assertThat(probe).isEqualTo(step % 2 == 0);
      assertThat(suspects.begin(probe, id -> true)).isTrue();
      assertThat(suspects.admits(C)).isEqualTo(!probe);
      assertThat(suspects.admits(A) && suspects.admits(B)).isFalse();
      assertThat(suspects.admits(A) || suspects.admits(B)).isEqualTo(probe);
      probes += suspects.admits(A) ? 1 : 0;
    }
    assertThat(probes).isEqualTo(1);
  }

  @Test
  void aStepThatSucceedsClearsItsAdapters() {
    suspects.failed(Set.of(A, B), 0);
    suspects.cleared(Set.of(A));
    suspects.begin(false, id -> true);

    assertThat(suspects.admits(A)).isTrue();
    assertThat(suspects.admits(B)).isFalse();
  }
}
