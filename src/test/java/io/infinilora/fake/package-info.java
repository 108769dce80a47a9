/** Fakes that several packages' tests share. */
package io.infinilora.fake;
