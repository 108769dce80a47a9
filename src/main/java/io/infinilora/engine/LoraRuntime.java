package io.infinilora.engine;

import io.infinilora.backend.OpStream;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.model.LoraPort;
import io.vertx.core.Future;
import java.util.List;
import java.util.Optional;

/** How a base-model instance gets its LoRA deltas. Event loop only, except where noted. */
public interface LoraRuntime {

  /** Adapter generation that new requests for {@code name} use; any thread. */
  Optional<AdapterId> find(String name);

  /** Adapters that requests may name; any thread. */
  List<AdapterId> adapters();

  /** Changes the adapters; any thread. */
  AdapterAdmin admin();

  /**
   * Holds an adapter in device memory.
   *
   * @param deadlineNanos {@link System#nanoTime} at which to give up waiting for memory
   * @param listener may be told before this returns
   * @throws io.infinilora.core.InfiniLoraException if it is known at once that there will be none
   */
  Lease lease(AdapterId adapter, long deadlineNanos, LeaseListener listener);

  /**
   * Announces a step before it is handed to the driver thread.
   *
   * @param slotOfRow slot of each row's granted lease, or {@link
   *     io.infinilora.adapter.AdapterGroups#NO_ADAPTER}
   * @param deadlineNanos {@link System#nanoTime} at which the step is given up
   */
  Step announce(int[] slotOfRow, long deadlineNanos);

  /**
   * Makes steps possible again after one has failed or a lease was lost. No step may be in flight.
   *
   * @return completes on the event loop, mostly at once, when steps may be announced
   */
  default Future<Void> recover() {
    return Future.succeededFuture();
  }

  /** Ends the runtime on a worker thread, after the last step. */
  default void close() {}

  /** A hold on an adapter. */
  interface Lease {

    /** Number by which steps refer to the adapter; once granted. */
    int slot();

    /** Ends the hold. No step in flight may use it. */
    void release();
  }

  /** Hears what becomes of a lease. */
  interface LeaseListener {

    /** Steps may use the adapter until the lease is released. */
    void granted();

    /**
     * There will be no such lease, or, after {@link #granted}, there is none any more: whoever
     * granted it is gone, or the adapter could not be loaded to its end. It must be released all
     * the same.
     */
    void failed(InfiniLoraException cause);

    /**
     * Others wait for the memory: no new work should begin, and the lease should be released when
     * what runs has ended. Comes after {@link #granted}, perhaps more than once.
     */
    void revoked();
  }

  /** One announced step. */
  interface Step {
    /** No row uses an adapter. */
    Step NONE =
        new Step() {
          @Override
          public LoraPort port(OpStream ops) {
            return LoraPort.NONE;
          }

          @Override
          public Object key() {
            return this;
          }
        };

    /** The port for the model code; driver thread. */
    LoraPort port(OpStream ops);

    /**
     * What the operators that the port calls depend on besides the batch, as {@link OpStream#step}
     * wants it; null if they are to run once.
     */
    default Object key() {
      return null;
    }

    /** The step failed on the base's side; nothing more will be published. Driver thread. */
    default void abandon() {}
  }
}
