package io.infinilora.api;

import io.infinilora.core.FinishReason;
import java.util.List;

/**
 * The next part of a choice.
 *
 * @param text possibly empty
 * @param tokens the tokens whose text begins in it
 * @param finish why the choice ends with this piece, or null if it goes on
 */
record Piece(String text, List<TokenEntry> tokens, FinishReason finish) {}
