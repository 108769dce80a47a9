/** Transformer families, written once over the operators of {@link io.infinilora.backend}. */
package io.infinilora.model;
