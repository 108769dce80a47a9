package io.infinilora.core;

/** Why a generation ended. */
public enum FinishReason {
  /** An end-of-sequence or stop token (or, in the API, a stop string). */
  STOP,
  /** The token limit or the context's end. */
  LENGTH
}
