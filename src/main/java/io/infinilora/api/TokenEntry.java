package io.infinilora.api;

import io.infinilora.core.TokenLogprobs;

/**
 * A token of a choice as the answer lists it.
 *
 * @param token id
 * @param offset characters of the choice's text before it
 * @param logprobs null unless asked for, and for the first token of a prompt
 */
record TokenEntry(int token, int offset, TokenLogprobs logprobs) {}
