package io.infinilora.api;

/**
 * Writes the answer to one request. All methods are called on the event loop of the response, and
 * none after {@link #finish} or {@link #fail}.
 */
interface AnswerWriter {
  /** The next piece of a choice. */
  void piece(int choice, Piece piece);

  /** The end of the answer, after every choice has finished. */
  void finish(Usage usage);

  /** The end of the answer, too early. */
  void fail(ApiError error);

  /** Whether the client is slower than the answer, so that no more should be produced. */
  boolean full();
}
