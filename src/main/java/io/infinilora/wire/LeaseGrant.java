package io.infinilora.wire;

import java.util.UUID;

/**
 * An adapter is in device memory and stays there until the lease ends.
 *
 * @param incarnation of the shard that grants it; leases and slots of one mean nothing to another
 * @param lease number of the lease at its shard
 * @param slot number by which steps refer to the adapter
 */
public record LeaseGrant(UUID incarnation, long lease, int slot) {}
