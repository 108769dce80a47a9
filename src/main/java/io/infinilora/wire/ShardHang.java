package io.infinilora.wire;

import java.util.UUID;

/**
 * A shard computes nothing at present, though its process lives. Steps in flight there are not
 * worth waiting for; it grants leases again as soon as it goes on.
 *
 * @param shard its index
 * @param incarnation which one
 */
public record ShardHang(int shard, UUID incarnation) {}
