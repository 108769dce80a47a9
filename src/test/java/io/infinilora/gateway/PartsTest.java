package io.infinilora.gateway;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.FinishReason;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.OverloadedException;
import io.infinilora.core.TokenEvent;
import io.infinilora.core.TokenLogprobs;
import io.infinilora.wire.StreamEnd;
import io.infinilora.wire.StreamPart;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class PartsTest {
  private static TokenLogprobs logprobs(int token) {
    return new TokenLogprobs(-token / 7f, new int[] {token, 1}, new float[] {-token / 7f, -9});
  }

  @Test
  void everyKindOfEventComesOutAsItWentIn() {
    List<TokenEvent> events =
        List.of(
            new TokenEvent.Started(Optional.of(new AdapterId("a", "1")), 16),
            new TokenEvent.Prompt(Arrays.asList(null, logprobs(4))),
            new TokenEvent.Token(3, 30, logprobs(30)),
            new TokenEvent.Token(4, 31, logprobs(31)),
            new TokenEvent.Finished(FinishReason.STOP, 2, 16, 5));
    StreamPart part = Parts.pack(7, 1, events, null);
    assertThat(part.stream()).isEqualTo(7);
    assertThat(part.sequence()).isEqualTo(1);
    assertThat(Parts.unpack(part)).usingRecursiveComparison().isEqualTo(events);
  }

  @Test
  void aPartMayHoldTokensWithoutLogprobsOrNothing() {
    List<TokenEvent> tokens =
        List.of(new TokenEvent.Token(0, 30, null), new TokenEvent.Token(1, 31, null));
    assertThat(Parts.unpack(Parts.pack(0, 0, tokens, null))).isEqualTo(tokens);
    assertThat(Parts.unpack(Parts.pack(0, 0, List.of(), null))).isEmpty();
  }

  @Test
  void failuresKeepCodeMessageAndTime() {
    StreamEnd overloaded =
        StreamEnd.of(new OverloadedException("full", Duration.ofNanos(1_500_000_001)));
    assertThat(overloaded.failure().exception())
        .isInstanceOfSatisfying(
            OverloadedException.class,
            e -> assertThat(e.retryAfter()).isEqualTo(Duration.ofNanos(1_500_000_001)))
        .hasMessage("full");
    assertThat(
            StreamEnd.of(new InfiniLoraException(ErrorCode.DEADLINE_EXCEEDED, "late"))
                .failure()
                .exception())
        .hasMessage("late")
        .extracting(InfiniLoraException::code)
        .isEqualTo(ErrorCode.DEADLINE_EXCEEDED);
    assertThat(StreamEnd.of(new IllegalStateException("odd")).failure().exception())
        .hasMessageContaining("odd")
        .extracting(InfiniLoraException::code)
        .isEqualTo(ErrorCode.INTERNAL);
  }
}
