package io.infinilora.wire.frames;

/** What a frame is. The number on the wire is the ordinal plus one. */
public enum FrameType {
  /** Base to shard, once, first: {@link Hello}. */
  HELLO,
  /** Shard to base, once: the session is open. No payload. */
  WELCOME,
  /** Shard to base, instead of a welcome: {@link Trouble}. The connection ends. */
  REFUSAL,
  /** Base to shard, once per step and before its activations: {@link StepFrame}. */
  STEP,
  /** Base to shard: the rows of a site, after the routing if this is the layer's first. */
  ACTIVATIONS,
  /** Shard to base: the rows of all targets of a site. */
  DELTAS,
  /** Shard to base: {@link Trouble} of a step, which gets no more deltas. */
  FAILURE,
  /** Base to shard: the epoch is closed; nothing of it is to come any more. No payload. */
  ABANDON;

  private static final FrameType[] ALL = values();

  int number() {
    return ordinal() + 1;
  }

  static FrameType of(int number) {
    if (number < 1 || number > ALL.length) {
      throw new FrameException("there is no frame of type " + number);
    }
    return ALL[number - 1];
  }
}
