package io.infinilora.simulator;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;

/**
 * Poisson arrivals for adapters whose popularity follows Zipf's law.
 *
 * @param rate requests per second
 * @param requests how many
 * @param adapters how many
 * @param skew exponent of Zipf's law; 0 for equally popular adapters
 * @param seed equal seeds give equal arrivals
 */
public record Workload(double rate, int requests, int adapters, double skew, long seed) {

  /**
   * A request.
   *
   * @param seconds when it arrives
   * @param adapter its adapter, from 0 for the most popular one
   * @param lengths of its prompt and output
   */
  public record Arrival(double seconds, int adapter, RequestLengths lengths) {}

  /** The requests in order of arrival, each as long as a random one of {@code lengths}. */
  public List<Arrival> arrivals(List<RequestLengths> lengths) {
    Random random = new Random(seed);
    double[] cumulated = cumulatedPopularity();
    List<Arrival> arrivals = new ArrayList<>(requests);
    double now = 0;
    for (int i = 0; i < requests; i++) {
      now -= Math.log(1 - random.nextDouble()) / rate;
      int found = Arrays.binarySearch(cumulated, random.nextDouble() * cumulated[adapters - 1]);
      arrivals.add(
          new Arrival(
              now, found < 0 ? -found - 1 : found, lengths.get(random.nextInt(lengths.size()))));
    }
    return arrivals;
  }

  private double[] cumulatedPopularity() {
    double[] cumulated = new double[adapters];
    double sum = 0;
    for (int i = 0; i < adapters; i++) {
      sum += Math.pow(i + 1, -skew);
      cumulated[i] = sum;
    }
    return cumulated;
  }
}
