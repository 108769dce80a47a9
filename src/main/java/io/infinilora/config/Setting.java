package io.infinilora.config;

/**
 * A value that someone has set, still as text.
 *
 * @param text as written; null for an explicit "not set"
 * @param origin where, for messages: a file with its line, a variable, the command line
 */
record Setting(String text, String origin) {}
