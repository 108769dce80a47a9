package io.infinilora.wire;

import io.infinilora.core.GenerateRequest;
import java.util.UUID;

/**
 * What a gateway sends to a base-model instance, one-way. A stream is one generation at one base;
 * its number is never used again by the same gateway.
 *
 * <p>Credits are totals: so many events of the stream may have been sent since its beginning. A
 * total that is lost or comes late is made good by the next one.
 */
public sealed interface BaseCall {

  /** Who calls. */
  UUID gateway();

  /** Begin a stream. Answered with {@link StreamMessage.Parts} on the gateway's address. */
  record Generate(UUID gateway, long stream, long credit, GenerateRequest request)
      implements BaseCall {}

  /** More events may be sent. */
  record Credit(UUID gateway, long stream, long credit) implements BaseCall {}

  /** End a stream; nothing more is to be sent of it. */
  record Cancel(UUID gateway, long stream) implements BaseCall {}

  /**
   * The gateway is alive. Other streams than these it does not know, and they are to be ended.
   * Answered with {@link StreamMessage.Pong}.
   *
   * @param streams all its streams at this base
   * @param credits the credit of each
   */
  record Ping(UUID gateway, long[] streams, long[] credits) implements BaseCall {}
}
