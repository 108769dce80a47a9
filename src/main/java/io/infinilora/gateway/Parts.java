package io.infinilora.gateway;

import io.infinilora.core.TokenEvent;
import io.infinilora.core.TokenLogprobs;
import io.infinilora.wire.StreamEnd;
import io.infinilora.wire.StreamPart;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** Events of a stream as they travel, several at a time. */
final class Parts {
  private Parts() {}

  /**
   * Packs events and perhaps the end.
   *
   * @param events in the order in which an engine emits them
   * @param failure that follows them, or null
   */
  static StreamPart pack(long stream, long sequence, List<TokenEvent> events, StreamEnd failure) {
    TokenEvent.Started started = null;
    List<TokenLogprobs> prompt = null;
    int firstIndex = 0;
    int[] tokens = new int[(int) events.stream().filter(Parts::isToken).count()];
    List<TokenLogprobs> logprobs = null;
    StreamEnd end = failure;
    int count = 0;
    for (TokenEvent event : events) {
      switch (event) {
        case TokenEvent.Started s -> started = s;
        case TokenEvent.Prompt p ->
            prompt = Collections.unmodifiableList(new ArrayList<>(p.logprobs()));
        case TokenEvent.Token token -> {
          if (count == 0) {
            firstIndex = token.index();
            logprobs = token.logprobs() == null ? null : new ArrayList<>(tokens.length);
          }
          tokens[count++] = token.token();
          if (logprobs != null) {
            logprobs.add(token.logprobs());
          }
        }
        case TokenEvent.Finished finished -> end = StreamEnd.of(finished);
      }
    }
    return new StreamPart(stream, sequence, started, prompt, firstIndex, tokens, logprobs, end);
  }

  private static boolean isToken(TokenEvent event) {
    return event instanceof TokenEvent.Token;
  }

  /** The events of a part; the end is one of them if it is no failure. */
  static List<TokenEvent> unpack(StreamPart part) {
    List<TokenEvent> events = new ArrayList<>(part.tokens().length + 1);
    if (part.started() != null) {
      events.add(part.started());
    }
    if (part.prompt() != null) {
      events.add(new TokenEvent.Prompt(part.prompt()));
    }
    for (int i = 0; i < part.tokens().length; i++) {
      events.add(
          new TokenEvent.Token(
              part.firstIndex() + i,
              part.tokens()[i],
              part.logprobs() == null ? null : part.logprobs().get(i)));
    }
    if (part.end() != null && part.end().finished() != null) {
      events.add(part.end().finished());
    }
    return events;
  }
}
