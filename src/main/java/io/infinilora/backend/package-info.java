/**
 * The operator interface between model code and devices. {@link io.infinilora.backend.Backend} owns
 * memory and weights of one device; an {@link io.infinilora.backend.OpStream} executes operators in
 * order on behalf of one driver thread; a {@link io.infinilora.backend.Signal} orders work between
 * streams. CPU runs an operator at once; a GPU enqueues it.
 */
package io.infinilora.backend;
