/** Checks an engine against fixtures: logits and tokens of an independent implementation. */
package io.infinilora.verify;
