/** Benchmarks: the speed of kernels and of whole steps, each beside its limit. */
package io.infinilora.bench;
