package io.infinilora.wire;

import java.util.UUID;

/**
 * A shard of the LoRA Server begins or ends. One that begins has no adapters and knows no leases.
 *
 * @param shard its index
 * @param incarnation differs each time a shard begins
 * @param serving whether it begins
 */
public record ShardNotice(int shard, UUID incarnation, boolean serving) {}
