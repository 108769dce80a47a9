package io.infinilora.engine;

import io.infinilora.backend.OpStream;
import io.infinilora.core.AdapterId;
import io.infinilora.model.LoraPort;
import java.util.List;
import java.util.Optional;

/** How a base-model instance gets its LoRA deltas. Event loop only, except where noted. */
public interface LoraRuntime {

  /** Adapter generation and slot that requests for {@code name} use now. */
  Optional<Adapter> find(String name);

  /** Adapters that requests may name; any thread. */
  List<AdapterId> adapters();

  /**
   * Announces a step before it is handed to the driver thread.
   *
   * @param slotOfRow adapter slot of each row of the step, or {@link
   *     io.infinilora.adapter.AdapterGroups#NO_ADAPTER}
   * @param deadlineNanos {@link System#nanoTime} at which the step is given up
   */
  Step announce(int[] slotOfRow, long deadlineNanos);

  /**
   * An adapter that can be used.
   *
   * @param id generation
   * @param slot number by which steps refer to it
   */
  record Adapter(AdapterId id, int slot) {}

  /** One announced step. */
  interface Step {
    /** No row uses an adapter. */
    Step NONE = ops -> LoraPort.NONE;

    /** The port for the model code; driver thread. */
    LoraPort port(OpStream ops);

    /** The step failed on the base's side; nothing more will be published. Driver thread. */
    default void abandon() {}
  }
}
