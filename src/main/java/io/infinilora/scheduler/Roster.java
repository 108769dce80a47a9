package io.infinilora.scheduler;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Who waits and who runs. */
final class Roster {
  private final Map<String, Sequence> byId = new HashMap<>();
  private final List<Sequence> waiting = new ArrayList<>();
  private final List<Sequence> running = new ArrayList<>();

  /** Preempted sequences first, then in order of arrival. */
  List<Sequence> waiting() {
    return Collections.unmodifiableList(waiting);
  }

  /** In order of admission. */
  List<Sequence> running() {
    return Collections.unmodifiableList(running);
  }

  /** The sequence of this id that waits or runs, or null. */
  Sequence find(String id) {
    return byId.get(id);
  }

  boolean isEmpty() {
    return byId.isEmpty();
  }

  /** Queues a sequence whose id is not in use. */
  void add(Sequence sequence) {
    byId.put(sequence.id(), sequence);
    waiting.add(sequence);
  }

  /** Moves a waiting sequence to those that run; those it passes take note. */
  void admit(Sequence sequence, List<Sequence> candidates) {
    for (Sequence other : candidates) {
      if (other == sequence) {
        break;
      }
      other.countOvertaken();
    }
    waiting.remove(sequence);
    running.add(sequence);
    sequence.state(Sequence.State.RUNNING);
  }

  /** Moves a running sequence to the head of the queue. */
  void preempt(Sequence sequence) {
    running.remove(sequence);
    waiting.addFirst(sequence);
    sequence.state(Sequence.State.WAITING);
  }

  /** Forgets a sequence. */
  void remove(Sequence sequence) {
    (sequence.state() == Sequence.State.WAITING ? waiting : running).remove(sequence);
    byId.remove(sequence.id());
    sequence.state(Sequence.State.DONE);
  }

  /** Checks that everybody is in one place and waits without blocks. */
  void checkInvariants() {
    for (Sequence sequence : waiting) {
      if (sequence.blockCount() != 0
          || sequence.computed() != 0
          || sequence.state() != Sequence.State.WAITING) {
        throw new IllegalStateException(sequence + " is not a plainly waiting one");
      }
    }
    if (byId.size() != waiting.size() + running.size()) {
      throw new IllegalStateException(
          "%d sequences known, %d waiting, %d running"
              .formatted(byId.size(), waiting.size(), running.size()));
    }
  }
}
