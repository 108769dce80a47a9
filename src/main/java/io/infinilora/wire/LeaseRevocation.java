package io.infinilora.wire;

/**
 * Asks a base model to release a lease as soon as what it computes with it has ended, because
 * others wait for the memory.
 *
 * @param shard index of the shard that granted it
 * @param grant what was granted there
 */
public record LeaseRevocation(int shard, LeaseGrant grant) {}
