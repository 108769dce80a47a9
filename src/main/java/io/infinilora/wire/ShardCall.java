package io.infinilora.wire;

import io.infinilora.core.AdapterId;

/** What the coordinator of a LoRA Server asks of one shard. */
public sealed interface ShardCall {

  /**
   * Read and check an adapter, but let nobody use it yet. Answered with its {@link
   * io.infinilora.core.AdapterStatus}.
   *
   * @param name name that requests will use
   * @param source PEFT directory
   */
  record Prepare(String name, String source) implements ShardCall {}

  /** Let requests use what was prepared; the generation before it leaves when nobody uses it. */
  record Commit(AdapterId id) implements ShardCall {}

  /** Forget what was prepared. */
  record Abort(AdapterId id) implements ShardCall {}

  /** Let new requests use this name no more. Answered when nobody uses its generation any more. */
  record Withdraw(String name) implements ShardCall {}

  /** Pin or unpin. Answered with the {@link io.infinilora.core.AdapterStatus}. */
  record Pin(String name, boolean pinned) implements ShardCall {}

  /** Load ahead of requests. Answered with the {@link io.infinilora.core.AdapterStatus}. */
  record Prefetch(String name) implements ShardCall {}

  /** Where all adapters are. Answered with an {@link AdapterListing} of version 0. */
  record Places() implements ShardCall {}

  /** Where an adapter is. Answered with the {@link io.infinilora.core.AdapterStatus}. */
  record Status(String name) implements ShardCall {}
}
