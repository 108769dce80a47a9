/** Weights of files, decoded: what the backends pack. */
package io.infinilora.backend.decode;
