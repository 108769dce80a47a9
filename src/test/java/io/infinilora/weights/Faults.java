package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;

/** Assertions on the errors of readers. */
final class Faults {

  private Faults() {}

  /** The call fails with this code and a message that contains all of the parts. */
  static void assertFault(ErrorCode code, ThrowingCallable call, String... parts) {
    Throwable thrown = catchThrowable(call);
    assertThat(thrown).isInstanceOf(InfiniLoraException.class).hasMessageContainingAll(parts);
    assertThat(((InfiniLoraException) thrown).code()).isEqualTo(code);
  }
}
