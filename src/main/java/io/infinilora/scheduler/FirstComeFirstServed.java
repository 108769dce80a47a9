package io.infinilora.scheduler;

import java.util.List;

/** In order of admission, then of arrival. */
final class FirstComeFirstServed implements SchedulingPolicy {

  @Override
  public Sequence select(List<Sequence> prefilling, List<Sequence> candidates) {
    return prefilling.isEmpty() ? candidates.getFirst() : prefilling.getFirst();
  }
}
