package io.infinilora.simulator;

import io.infinilora.simulator.Workload.Arrival;
import java.util.List;
import java.util.function.Predicate;
import java.util.function.ToDoubleFunction;

/**
 * What became of the requests.
 *
 * @param served in the order in which they ended
 * @param refused by a full queue, in order of arrival
 * @param seconds when the last one ended
 */
public record SimulationResult(List<Served> served, List<Arrival> refused, double seconds) {

  /**
   * A request that was served. Times are seconds on the same clock as the arrival's.
   *
   * @param started when the first step with a row of it began
   * @param firstToken when its first token was there
   * @param finished when its last one was
   */
  public record Served(Arrival arrival, double started, double firstToken, double finished) {

    /** Seconds in the queue: the time to the first token without that of the prompt's steps. */
    public double queueing() {
      return started - arrival.seconds();
    }

    /** Seconds to the first token. */
    public double timeToFirstToken() {
      return firstToken - arrival.seconds();
    }
  }

  /**
   * A time's distribution, in seconds.
   *
   * @param p50 the median
   * @param p95 95th percentile
   * @param p99 99th percentile
   */
  public record Percentiles(double p50, double p95, double p99) {}

  /** The coldest tenth of so many adapters. */
  public static Predicate<Arrival> coldestDecile(int adapters) {
    return arrival -> arrival.adapter() >= adapters - adapters / 10;
  }

  /** The result for these requests alone. */
  public SimulationResult of(Predicate<Arrival> requests) {
    return new SimulationResult(
        served.stream().filter(s -> requests.test(s.arrival())).toList(),
        refused.stream().filter(requests).toList(),
        seconds);
  }

  /** Percentiles by nearest rank; NaN if nobody was served. */
  public Percentiles percentiles(ToDoubleFunction<Served> time) {
    double[] sorted = served.stream().mapToDouble(time).sorted().toArray();
    return new Percentiles(rank(sorted, 50), rank(sorted, 95), rank(sorted, 99));
  }

  private static double rank(double[] sorted, int percent) {
    return sorted.length == 0 ? Double.NaN : sorted[Math.ceilDiv(sorted.length * percent, 100) - 1];
  }
}
