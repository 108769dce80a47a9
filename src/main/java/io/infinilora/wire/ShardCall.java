package io.infinilora.wire;

import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterRegistration;

/** What the coordinator of a LoRA Server asks of one shard. */
public sealed interface ShardCall {

  /**
   * Read and check an adapter, but let nobody use it yet. Answered with the shard's part of a
   * {@link io.infinilora.core.LoadedAdapter}; whether it has an effect only all parts can tell.
   */
  record Prepare(AdapterRegistration adapter) implements ShardCall {}

  /** Let requests use what was prepared; the generation before it leaves when nobody uses it. */
  record Commit(AdapterId id) implements ShardCall {}

  /**
   * Take a commit back, if it was made since the last preparation, since another shard could not
   * make it: what was there before is current again. Again has no effect.
   */
  record Revert(AdapterId id) implements ShardCall {}

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
