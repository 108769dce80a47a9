package io.infinilora.wire;

import io.infinilora.core.AdapterId;

/**
 * Asks a shard to hold an adapter in device memory for a base model. Answered with a {@link
 * LeaseGrant} once the first layer is ready.
 *
 * @param base name of the base-model instance, which hears of revocations
 * @param session under which the lease is held: it ends with it at the latest. Another each time
 *     that a base connects to a shard
 * @param adapter generation
 * @param waitNanos how long the base is willing to wait
 */
public record LeaseRequest(String base, String session, AdapterId adapter, long waitNanos) {}
