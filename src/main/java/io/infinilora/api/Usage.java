package io.infinilora.api;

/**
 * Tokens of a whole request.
 *
 * @param prompt of all prompts, each counted once whatever {@code n} is
 * @param cached prompt tokens found in the prefix cache
 * @param completion output tokens of all choices, including those that a stop string cut off
 */
record Usage(int prompt, int cached, int completion) {}
