/**
 * Decides what a base model computes next: admission, continuous batching with chunked prefill,
 * paged KV blocks, prefix reuse and preemption by recompute.
 *
 * <p>A pure state machine: no clock, no I/O, no threads. The owner (the base model's event loop)
 * asks for a plan, runs it, and gives the sampled tokens back. Nothing here is thread-safe.
 */
package io.infinilora.scheduler;
