package io.infinilora.gateway;

import java.util.ArrayList;
import java.util.List;

/**
 * Chooses a base for a request. Load comes first; among those whose load is close to the least, one
 * that uses the request's adapter already, since it has the adapter in memory, shares batches with
 * it and perhaps holds a common prefix.
 */
final class RoutingPolicy {
  /**
   * How much more load an adapter's base may have than the least loaded one: a quarter of a full
   * batch.
   */
  static final double SLACK = 0.25;

  private static final double EQUAL = 1e-9;

  private RoutingPolicy() {}

  /**
   * A base that may be chosen.
   *
   * @param requests running and waiting ones, and those sent since they were counted
   * @param maxRunning most that run at the same time
   * @param kvUsage part of the KV cache in use, from 0 to 1
   * @param usesAdapter whether it uses the request's adapter now; false if the request has none
   */
  record Candidate(int requests, int maxRunning, double kvUsage, boolean usesAdapter) {

    /** 0 if idle; a full batch adds 1, and so does a full KV cache. */
    double load() {
      return (double) requests / Math.max(1, maxRunning) + kvUsage;
    }
  }

  /**
   * Chooses.
   *
   * @param candidates at least one
   * @param turn differs from call to call by 1, so that equals take turns
   * @return index of the chosen one
   */
  static int choose(List<Candidate> candidates, long turn) {
    double least = candidates.stream().mapToDouble(Candidate::load).min().orElseThrow();
    List<Integer> near = new ArrayList<>();
    for (int i = 0; i < candidates.size(); i++) {
      if (candidates.get(i).usesAdapter() && candidates.get(i).load() <= least + SLACK + EQUAL) {
        near.add(i);
      }
    }
    if (near.isEmpty()) {
      for (int i = 0; i < candidates.size(); i++) {
        near.add(i);
      }
    }
    double best = near.stream().mapToDouble(i -> candidates.get(i).load()).min().orElseThrow();
    near.removeIf(i -> candidates.get(i).load() > best + EQUAL);
    return near.get((int) Math.floorMod(turn, (long) near.size()));
  }
}
