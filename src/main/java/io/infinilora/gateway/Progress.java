package io.infinilora.gateway;

import io.infinilora.core.AdapterId;
import io.infinilora.core.FinishReason;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.TokenEvent;
import java.util.Arrays;
import java.util.Optional;

/**
 * What has come of a generation, whichever bases it came from, and so what the next base is to be
 * asked for. Event loop only.
 */
final class Progress {
  private final GenerateRequest request;
  private TokenEvent.Started started;
  private boolean startReported;
  private boolean prompted;
  private int[] output;
  private int length;
  private int context;
  private int requests;

  /** Nothing has come but what the request says. */
  Progress(GenerateRequest request) {
    this.request = request;
    this.started = request.started().orElse(null);
    this.output = request.generated().clone();
    this.length = output.length;
  }

  /** Whether anything has come that another base has to go on from. */
  boolean begun() {
    return length > 0 || prompted || startReported;
  }

  /** Whether this generation of the adapter may compute the rest. */
  boolean canGoOnWith(AdapterId adapter) {
    return started == null || started.adapter().equals(Optional.of(adapter));
  }

  /** Number of output tokens. */
  int outputLength() {
    return length;
  }

  /**
   * Context that a base must have: what the request can use of the longest there is, and after the
   * beginning what it could use then.
   *
   * @param longest the longest context of a base now
   */
  int context(int longest) {
    if (requests == 0 || !begun()) {
      context =
          (int) Math.min(longest, (long) request.prompt().length + request.sampling().maxTokens());
    }
    return context;
  }

  /** Most output tokens within that context. */
  private int limit() {
    return Math.min(request.sampling().maxTokens(), Math.max(1, context - request.prompt().length));
  }

  /** The end, if nothing else is missing. */
  Optional<TokenEvent.Finished> missingEnd() {
    return requests > 0 && length >= limit()
        ? Optional.of(
            new TokenEvent.Finished(
                FinishReason.LENGTH,
                request.prompt().length,
                started == null ? 0 : started.cachedPromptTokens(),
                length))
        : Optional.empty();
  }

  /** What the next base is to do. */
  GenerateRequest next() {
    if (!begun()) {
      // It may start anew, with whatever generation of the adapter.
      started = request.started().orElse(null);
    }
    String id = requests == 0 ? request.id() : request.id() + "~" + requests;
    requests++;
    return new GenerateRequest(
        id,
        request.prompt(),
        request.adapter(),
        request.sampling().limitedTo(limit()),
        request.promptLogprobs() && !prompted,
        true,
        Arrays.copyOf(output, length),
        Optional.ofNullable(started));
  }

  /** Whether this is what comes next: nothing else may reach the subscriber. */
  boolean continues(TokenEvent event) {
    return switch (event) {
      case TokenEvent.Started s -> started == null || started.adapter().equals(s.adapter());
      case TokenEvent.Prompt p -> !prompted && length == request.generated().length;
      case TokenEvent.Token token -> token.index() == length;
      case TokenEvent.Finished finished -> finished.outputTokens() == length;
    };
  }

  /**
   * Takes what comes next.
   *
   * @return whether it is to reach the subscriber
   */
  boolean add(TokenEvent event) {
    switch (event) {
      case TokenEvent.Started s -> {
        started = started == null ? s : started;
        boolean again = startReported;
        startReported = request.reportStart();
        return startReported && !again;
      }
      case TokenEvent.Prompt prompt -> prompted = true;
      case TokenEvent.Token token -> {
        if (length == output.length) {
          output = Arrays.copyOf(output, Math.max(16, 2 * length));
        }
        output[length++] = token.token();
      }
      case TokenEvent.Finished finished -> {}
    }
    return true;
  }
}
