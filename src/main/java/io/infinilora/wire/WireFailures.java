package io.infinilora.wire;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.vertx.core.eventbus.Message;
import io.vertx.core.eventbus.ReplyException;
import io.vertx.core.eventbus.ReplyFailure;

/** Errors as the event bus carries them: a code and a message. */
public final class WireFailures {
  /** Numbers below are Vert.x's own. */
  private static final int FIRST = 1000;

  private static final String DISCARDED = "Discarded the request";

  private static final ErrorCode[] CODES = ErrorCode.values();

  private WireFailures() {}

  /** Answers a message with an error. */
  public static void fail(Message<?> message, Throwable cause) {
    ErrorCode code = cause instanceof InfiniLoraException e ? e.code() : ErrorCode.INTERNAL;
    String text = cause instanceof InfiniLoraException ? cause.getMessage() : cause.toString();
    message.fail(FIRST + code.ordinal(), text);
  }

  /** What the answer to a request says has happened. */
  public static InfiniLoraException of(Throwable failure) {
    if (failure instanceof InfiniLoraException known) {
      return known;
    }
    if (!(failure instanceof ReplyException reply)) {
      return new InfiniLoraException(ErrorCode.INTERNAL, failure.toString(), failure);
    }
    // Vert.x fails what an ended verticle had not looked at as if it had timed out.
    boolean ended = reply.getMessage() != null && reply.getMessage().startsWith(DISCARDED);
    if (reply.failureType() == ReplyFailure.TIMEOUT && !ended) {
      return new InfiniLoraException(
          ErrorCode.DEADLINE_EXCEEDED, "the LoRA server did not answer in time", reply);
    }
    int index = reply.failureCode() - FIRST;
    if (ended
        || reply.failureType() == ReplyFailure.NO_HANDLERS
        || index < 0
        || index >= CODES.length) {
      return new InfiniLoraException(
          ErrorCode.UNAVAILABLE, "the LoRA server is not there: " + reply.getMessage(), reply);
    }
    return new InfiniLoraException(CODES[index], reply.getMessage());
  }
}
