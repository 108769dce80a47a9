package io.infinilora.scheduler;

import java.util.List;

/** Chooses who is admitted next. */
@FunctionalInterface
public interface AdmissionPolicy {

  /** First come, first served. */
  AdmissionPolicy FCFS = (waiting, running) -> 0;

  /**
   * Index in {@code waiting} of the sequence to admit next, or -1 for none at the moment; never -1
   * while nothing runs. If the chosen one does not fit yet, no one is admitted in this step, so a
   * long prompt is not overtaken for ever.
   *
   * @param waiting not empty, in order of arrival, preempted sequences first
   * @param running in order of admission
   */
  int select(List<Sequence> waiting, List<Sequence> running);
}
