package io.infinilora.api;

/**
 * A prompt in ids.
 *
 * @param tokens at least one
 * @param maxTokens most output tokens, at least 1; prompt and output fit the context
 * @param echo the prompt's text, if the answer shall start with it, else null
 */
record EncodedPrompt(int[] tokens, int maxTokens, String echo) {}
