package io.infinilora.wire;

import java.util.UUID;

/**
 * A shard of the LoRA Server begins, ends or hangs. One that begins has no adapters and knows no
 * leases; one that hangs grants leases again when it does not any more.
 *
 * @param shard its index
 * @param incarnation differs each time a shard begins
 * @param serving whether it begins
 */
public record ShardNotice(int shard, UUID incarnation, boolean serving) {}
