package io.infinilora.engine;

import io.infinilora.backend.OpStream;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.wire.ShardNotice;
import io.vertx.core.Future;

/**
 * How the steps of a base model reach a shard: through shared memory or in frames. Event loop,
 * except where noted.
 */
interface StepPath {

  /**
   * Leads to an incarnation of the shard from now on.
   *
   * @return completes when it does, or will by itself as soon as that is possible
   */
  Future<Void> lead(ShardNotice shard);

  /** Whether leases can be asked for and steps announced. */
  boolean isOpen();

  /** Why it is not open, as far as that is known; empty otherwise. */
  String trouble();

  /** Under which leases are held, while it is open. */
  String session();

  /** Lets the shard know of a step. */
  Announced announce(ShardStep step);

  /** The incarnation is gone: a step in flight fails at once. */
  void lost(InfiniLoraException cause);

  /** The shard does not answer for now: a step in flight fails at once. */
  void giveUp(InfiniLoraException cause);

  /** Makes steps possible again after one was given up. */
  Future<Void> recover();

  /** Ends it; a worker thread, after the last step. */
  void close();

  /** A step that the shard knows of. Driver thread. */
  interface Announced {

    /** The base's side of it. */
    ShardPort port(OpStream ops);

    /** The base has given the step up. */
    void abandon();
  }
}
