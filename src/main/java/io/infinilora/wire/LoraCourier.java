package io.infinilora.wire;

import io.infinilora.backend.OpStream;
import io.infinilora.core.LoraSite;

/**
 * Brings activations into an exchange whose base model is in another process, and its deltas there.
 * Called by the server while it is inside the exchange: driver thread.
 */
public interface LoraCourier {
  /** For a base model that shares the exchange's memory. */
  LoraCourier NONE =
      new LoraCourier() {
        @Override
        public void fetch(LoraStep step, int layer, LoraSite site, OpStream ops) {}

        @Override
        public void deliver(LoraStep step, int layer, LoraSite site, OpStream ops) {}

        @Override
        public void failed(long step, Throwable cause) {}
      };

  /** Writes a site's activations, which have been published, into the exchange. */
  void fetch(LoraStep step, int layer, LoraSite site, OpStream ops);

  /** Sends a site's deltas, which are complete in the exchange. */
  void deliver(LoraStep step, int layer, LoraSite site, OpStream ops);

  /** Lets the base know that a step was given up. */
  void failed(long step, Throwable cause);
}
