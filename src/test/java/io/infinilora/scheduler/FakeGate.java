package io.infinilora.scheduler;

import io.infinilora.core.AdapterId;
import java.util.HashMap;
import java.util.Map;

/** A gate for tests: adapters are ready unless said otherwise. */
final class FakeGate implements AdapterGate {
  private final Map<AdapterId, State> states = new HashMap<>();

  @Override
  public State state(AdapterId adapter) {
    return states.getOrDefault(adapter, State.READY);
  }

  void set(AdapterId adapter, State state) {
    states.put(adapter, state);
  }

  void openAll() {
    states.clear();
  }
}
