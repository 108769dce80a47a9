/**
 * Text on one side, token ids on the other: tokenizer, chat templates, streaming detokenisation and
 * stop strings. Beyond this package the engine knows ids only.
 */
package io.infinilora.api.text;
