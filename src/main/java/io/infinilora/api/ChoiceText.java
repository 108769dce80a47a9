package io.infinilora.api;

import io.infinilora.api.text.Detokenizer;
import io.infinilora.api.text.StopStrings;
import io.infinilora.api.text.Tokenizer;
import io.infinilora.core.FinishReason;
import io.infinilora.core.TokenEvent;
import io.infinilora.core.TokenLogprobs;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Optional;

/**
 * Turns the tokens of one choice into pieces of text, without half characters and cut before the
 * first stop string. A token is listed once its text begins to be released, so tokens of the cut
 * part are never listed. Not thread-safe.
 */
final class ChoiceText {
  private final Detokenizer detokenizer;
  private final Tokenizer tokenizer;
  private final StopStrings stops;
  private final boolean canStop;
  private final Deque<TokenEntry> unreleased = new ArrayDeque<>();
  private int decoded;
  private int released;

  /** A choice at its beginning; without a tokenizer its text stays empty. */
  ChoiceText(Optional<Tokenizer> tokenizer, List<String> stops) {
    this.tokenizer = tokenizer.orElse(null);
    this.detokenizer = tokenizer.map(Detokenizer::new).orElse(null);
    this.stops = new StopStrings(stops);
    this.canStop = !stops.isEmpty();
  }

  /** Starts the text with the prompt. */
  Piece echo(String prompt, int[] tokens, List<TokenLogprobs> logprobs) {
    List<TokenEntry> entries = new ArrayList<>(tokens.length);
    Detokenizer prefix = new Detokenizer(tokenizer);
    int offset = 0;
    for (int i = 0; i < tokens.length; i++) {
      entries.add(new TokenEntry(tokens[i], Math.min(offset, prompt.length()), logprobs.get(i)));
      offset += prefix.append(tokens[i]).length();
    }
    decoded = prompt.length();
    released = prompt.length();
    return new Piece(prompt, entries, null);
  }

  /** Starts the text with the prompt, without listing its tokens. */
  Piece echo(String prompt) {
    decoded = prompt.length();
    released = prompt.length();
    return new Piece(prompt, List.of(), null);
  }

  /** The next token. */
  Piece append(TokenEvent.Token token) {
    unreleased.add(new TokenEntry(token.token(), decoded, token.logprobs()));
    String text = detokenizer == null ? "" : detokenizer.append(token.token());
    decoded += text.length();
    return piece(stops.append(text), null);
  }

  /** The end, by the engine's account. */
  Piece finish(FinishReason reason) {
    String rest = detokenizer == null ? "" : detokenizer.finish();
    decoded += rest.length();
    String text = stops.append(rest);
    return piece(text + stops.finish(), reason);
  }

  private Piece piece(String text, FinishReason reason) {
    released += text.length();
    List<TokenEntry> entries = new ArrayList<>(unreleased.size());
    boolean all = !canStop || (reason != null && !stops.stopped());
    while (!unreleased.isEmpty() && (all || unreleased.peek().offset() < released)) {
      entries.add(unreleased.poll());
    }
    return new Piece(text, entries, stops.stopped() ? FinishReason.STOP : reason);
  }
}
