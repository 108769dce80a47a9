package io.infinilora.core;

/**
 * The closed set of ways in which a request, a file or the service can fail. The HTTP front end
 * maps each code in one place; nothing else decides on status codes.
 */
public enum ErrorCode {
  /** A field of a request has the wrong type or an impossible value. */
  INVALID_REQUEST,
  /** The named model or adapter does not exist. */
  MODEL_NOT_FOUND,
  /** Prompt plus requested tokens do not fit the context or the KV cache. */
  CONTEXT_LENGTH_EXCEEDED,
  /** A queue is full; the caller may try again later. */
  OVERLOADED,
  /** A model file is truncated, inconsistent or of an unsupported kind. */
  BAD_MODEL_FILE,
  /** A well-formed model of an architecture that this version does not run. */
  UNSUPPORTED_MODEL,
  /** An adapter is malformed, unsupported or made for another model. */
  BAD_ADAPTER,
  /** A model or an adapter could not be had from the hub, or not as the hub describes it. */
  DOWNLOAD_FAILED,
  /** The operation cannot be done while something else goes on. */
  CONFLICT,
  /** A setting is unknown or has an impossible value. */
  BAD_CONFIG,
  /** A signal did not arrive before its deadline, so the step was given up. */
  DEADLINE_EXCEEDED,
  /** The service is starting or draining. */
  UNAVAILABLE,
  /** A defect of the engine itself. */
  INTERNAL
}
