package io.infinilora.core;

import io.smallrye.mutiny.Uni;
import java.util.List;

/**
 * Changes which adapters a serving node or cluster has, while it serves. Any thread; work starts
 * when a {@link Uni} is subscribed to, and its result may come on any event loop.
 */
public interface AdapterAdmin {

  /**
   * Reads and checks an adapter and lets requests use it. A name that is taken gets a new
   * generation: new requests use it, running ones finish on the old one. If that fails the old one
   * goes on serving.
   *
   * @return fails with BAD_ADAPTER naming file and key, also if it changes nothing though that is
   *     not wanted, or with INVALID_REQUEST if it may not come from there
   */
  Uni<LoadedAdapter> load(AdapterRegistration adapter);

  /**
   * Takes an adapter away from new requests at once.
   *
   * @param whenInUse what happens if requests still use it
   * @return completes when nobody uses it any more; fails with MODEL_NOT_FOUND, or CONFLICT if it
   *     is in use and that was to be refused
   */
  Uni<Void> unload(String name, WhenInUse whenInUse);

  /** What {@link #unload} does about running requests. */
  enum WhenInUse {
    /** They finish first. */
    WAIT,
    /** The adapter stays. */
    REFUSE
  }

  /** Keeps an adapter in device memory whether it is used or not, or not any more. */
  Uni<AdapterStatus> pin(String name, boolean pinned);

  /** Brings an adapter into device memory ahead of requests, if there is room. */
  Uni<AdapterStatus> prefetch(String name);

  /** All adapters in order of registration. */
  Uni<List<AdapterStatus>> list();
}
