package io.infinilora.wire;

import java.util.List;
import java.util.UUID;

/** What a base-model instance sends to a gateway, one-way. */
public sealed interface StreamMessage {

  /**
   * What has come up in some of the gateway's streams since the last message.
   *
   * @param base incarnation
   * @param parts at most one per stream
   */
  record Parts(UUID base, List<StreamPart> parts) implements StreamMessage {
    /** Copies the list. */
    public Parts {
      parts = List.copyOf(parts);
    }
  }

  /**
   * Answers a {@link BaseCall.Ping}; whatever the base sent before it has arrived, unless it was
   * lost.
   *
   * @param base incarnation
   * @param streams those of the ping
   * @param sent number of parts sent of each, or -1 if the base has no such stream
   */
  record Pong(UUID base, long[] streams, long[] sent) implements StreamMessage {}
}
