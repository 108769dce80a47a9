package io.infinilora.wire;

import io.infinilora.core.EngineLoad;
import java.util.List;
import java.util.UUID;

/**
 * What a base-model instance says of itself, several times a second and when its state changes.
 *
 * @param base name
 * @param incarnation differs each time the instance begins
 * @param state what it takes
 * @param load at this moment
 * @param maxRunning most sequences that run at the same time
 * @param contextLength longest prompt plus output
 * @param model what it serves, for people
 * @param fingerprint equal where the same request gets the same output
 * @param adapters names of adapters in use, at most {@link #MAX_ADAPTERS}
 */
public record BaseNotice(
    String base,
    UUID incarnation,
    State state,
    EngineLoad load,
    int maxRunning,
    int contextLength,
    String model,
    String fingerprint,
    List<String> adapters) {
  /** Adapters that a notice names: 64. */
  public static final int MAX_ADAPTERS = 64;

  /** What a base takes. */
  public enum State {
    /** New calls. */
    SERVING,
    /** None; those it has go on. */
    DRAINING,
    /** None, and it has none. The last notice of an incarnation. */
    GONE
  }

  /** Copies the list. */
  public BaseNotice {
    adapters = List.copyOf(adapters);
  }
}
