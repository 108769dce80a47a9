package io.infinilora.wire;

import io.infinilora.core.LoraShard;

/** Event-bus addresses of the LoRA Server. */
public final class LoraAddresses {
  /** Published to when the adapters that may be used change: {@link AdapterChange}. */
  public static final String CHANGES = "infinilora.lora.changes";

  /** Published to when a shard begins or ends: {@link ShardNotice}. */
  public static final String SHARDS = "infinilora.lora.shards";

  /** Takes {@link AdapterCall}s and answers them. */
  public static final String ADMIN = "infinilora.lora.admin";

  private static final String SHARD = "infinilora.lora.shard.";

  private LoraAddresses() {}

  /** Takes {@link LoraLayerRequest}s for a shard, one-way. */
  public static String requests(LoraShard shard) {
    return SHARD + shard.index() + ".requests";
  }

  /** Takes {@link LeaseRequest}s for a shard, answers {@link LeaseGrant}. */
  public static String leases(LoraShard shard) {
    return SHARD + shard.index() + ".leases";
  }

  /** Takes {@link LeaseRelease}s for a shard, one-way. */
  public static String releases(LoraShard shard) {
    return SHARD + shard.index() + ".releases";
  }

  /** Takes {@link LeaseRenewal}s for a shard, one-way. */
  public static String renewals(LoraShard shard) {
    return SHARD + shard.index() + ".renewals";
  }

  /** Takes {@link BaseEnded} for a shard, one-way. */
  public static String ends(LoraShard shard) {
    return SHARD + shard.index() + ".ends";
  }

  /** Takes {@link LeaseRevocation}s for a base-model instance, one-way. */
  public static String revocations(String base) {
    return "infinilora.base." + base + ".revocations";
  }

  /** Takes {@link ShardCall}s for a shard, and answers them. */
  public static String shardAdmin(LoraShard shard) {
    return SHARD + shard.index() + ".admin";
  }
}
