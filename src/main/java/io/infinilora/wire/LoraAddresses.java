package io.infinilora.wire;

import java.util.UUID;

/**
 * Event-bus addresses of the LoRA Server. Those of a shard belong to one incarnation of it, so that
 * nobody talks to one that has died and is not forgotten yet.
 */
public final class LoraAddresses {
  /** Published to when the adapters that may be used change: {@link AdapterChange}. */
  public static final String CHANGES = "infinilora.lora.changes";

  /** Published to when a shard begins or ends, and while it serves: {@link ShardNotice}. */
  public static final String SHARDS = "infinilora.lora.shards";

  /** Published to when a shard hangs: {@link ShardHang}. */
  public static final String HANGS = "infinilora.lora.hangs";

  /** Published to while a coordinator serves: {@link CoordinatorNotice}. */
  public static final String COORDINATORS = "infinilora.lora.coordinators";

  /** Takes {@link AdapterCall}s and answers them. */
  public static final String ADMIN = "infinilora.lora.admin";

  private static final String SHARD = "infinilora.lora.shard.";

  private LoraAddresses() {}

  /** Takes {@link LoraLayerRequest}s for a shard, one-way, from its own process only. */
  public static String requests(UUID incarnation) {
    return SHARD + incarnation + ".requests";
  }

  /** Takes {@link LeaseRequest}s for a shard, answers {@link LeaseGrant}. */
  public static String leases(UUID incarnation) {
    return SHARD + incarnation + ".leases";
  }

  /** Takes {@link LeaseRelease}s for a shard, one-way. */
  public static String releases(UUID incarnation) {
    return SHARD + incarnation + ".releases";
  }

  /** Takes {@link LeaseRenewal}s for a shard, one-way. */
  public static String renewals(UUID incarnation) {
    return SHARD + incarnation + ".renewals";
  }

  /** Takes {@link BaseEnded} for a shard, one-way. */
  public static String ends(UUID incarnation) {
    return SHARD + incarnation + ".ends";
  }

  /** Takes {@link LeaseRevocation}s for a base-model instance, one-way. */
  public static String revocations(String base) {
    return "infinilora.base." + base + ".revocations";
  }

  /** Takes {@link ShardCall}s for a shard, and answers them. */
  public static String shardAdmin(UUID incarnation) {
    return SHARD + incarnation + ".admin";
  }
}
