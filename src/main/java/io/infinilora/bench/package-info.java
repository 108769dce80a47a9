/** Benchmarks: kernels, and the engine end to end. Each prints the limit beside the figure. */
package io.infinilora.bench;
