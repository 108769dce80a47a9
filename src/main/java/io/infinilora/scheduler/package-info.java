/**
 * Decides what a base model computes next: admission by policy and by what adapters are ready,
 * continuous batching with chunked prefill, paged KV blocks, prefix reuse and preemption by
 * recompute.
 *
 * <p>A pure state machine: no clock, no I/O, no threads. The owner (the base model's event loop)
 * asks for a plan, runs it, and gives the sampled tokens back. It asks again when a request or an
 * adapter's readiness has come. Nothing here is thread-safe.
 */
package io.infinilora.scheduler;
