package io.infinilora.simulator;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import io.infinilora.config.Policy;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.simulator.SimulationResult.Percentiles;
import io.infinilora.simulator.SimulationResult.Served;
import io.infinilora.simulator.Workload.Arrival;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class SimulationTest {
  private static final int ADAPTERS = 20;
  private static final StepCost COST = new StepCost(0.01, 0.002, 0.001);

  @Test
  void theSampleIsThatOfItsReadme() {
    List<RequestLengths> lengths = RequestLengths.conversations();
    assertThat(lengths).hasSize(1020).startsWith(new RequestLengths(374, 44));
    assertThat(lengths).allMatch(l -> l.prompt() > 0 && l.output() > 0);
    assertThat(lengths.stream().mapToInt(RequestLengths::prompt).average().orElseThrow())
        .isCloseTo(1167, within(1.0));
    assertThat(lengths.stream().mapToInt(RequestLengths::output).average().orElseThrow())
        .isCloseTo(211, within(1.0));
  }

  @Test
  void arrivalsHaveTheRateAndThePopularityAsked() {
    List<Arrival> arrivals =
        new Workload(4, 20_000, 10, 1.2, 1).arrivals(List.of(new RequestLengths(1, 1)));
    assertThat(arrivals.getLast().seconds()).isCloseTo(5_000, within(100.0));
    double[] shares = new double[10];
    arrivals.forEach(arrival -> shares[arrival.adapter()] += 1.0 / arrivals.size());
    double sum = IntStream.rangeClosed(1, 10).mapToDouble(i -> Math.pow(i, -1.2)).sum();
    for (int i = 0; i < 10; i++) {
      assertThat(shares[i]).isCloseTo(Math.pow(i + 1, -1.2) / sum, within(0.01));
    }
  }

  @Test
  void timesFollowFromTheCostOfTheSteps() {
    List<Arrival> arrivals =
        List.of(
            new Arrival(1, 0, new RequestLengths(100, 2)),
            new Arrival(1.05, 1, new RequestLengths(10, 1)));
    SimulationResult result = Simulation.run(config(1, Policy.FCFS), COST, 8, arrivals);
    // The prompt takes 10 + 64 and 10 + 36 ms, the second token and the end 12 ms each.
    Served first = result.served().getFirst();
    assertThat(first.started()).isCloseTo(1, within(1e-9));
    assertThat(first.firstToken()).isCloseTo(1.12, within(1e-9));
    assertThat(first.finished()).isCloseTo(1.144, within(1e-9));
    Served second = result.served().getLast();
    assertThat(second.queueing()).isCloseTo(0.094, within(1e-9));
    assertThat(second.timeToFirstToken()).isCloseTo(0.114, within(1e-9));
    assertThat(result.seconds()).isCloseTo(1.176, within(1e-9));
  }

  @Test
  void percentilesAreOfTheNearestRank() {
    List<Served> served =
        IntStream.rangeClosed(1, 200)
            .mapToObj(i -> new Served(new Arrival(0, 0, new RequestLengths(1, 1)), i, i, i))
            .toList();
    assertThat(new SimulationResult(served, List.of(), 0).percentiles(Served::queueing))
        .isEqualTo(new Percentiles(100, 190, 198));
    assertThat(new SimulationResult(List.of(), List.of(), 0).percentiles(Served::queueing).p50())
        .isNaN();
  }

  @ParameterizedTest
  @EnumSource(Policy.class)
  void everyRequestIsServedOrRefusedAndEqualSeedsGiveEqualResults(Policy policy) {
    List<Arrival> arrivals = saturated(400);
    SimulationResult result = run(policy, arrivals);
    assertThat(result.served().size() + result.refused().size()).isEqualTo(400);
    assertThat(result.served().stream().map(Served::arrival)).doesNotHaveDuplicates();
    assertThat(result.served())
        .allMatch(
            s ->
                s.arrival().seconds() <= s.started()
                    && s.started() < s.firstToken()
                    && s.firstToken() < s.finished());
    assertThat(run(policy, saturated(400))).isEqualTo(result);
  }

  @Test
  void whenAHotAdapterSaturatesTheEngineFairnessSparesTheColdOnes() {
    List<Arrival> arrivals = saturated(3_000);
    SimulationResult fcfs = cold(run(Policy.FCFS, arrivals));
    SimulationResult fair = cold(run(Policy.ADAPTER_FAIR, arrivals));
    assertThat(fair.served()).hasSizeGreaterThan(40);
    assertThat(fair.refused()).isEmpty();
    assertThat(fair.percentiles(Served::queueing).p95())
        .isLessThan(fcfs.percentiles(Served::queueing).p95() / 5);
    assertThat(fair.percentiles(Served::timeToFirstToken).p95())
        .isLessThan(fcfs.percentiles(Served::timeToFirstToken).p95() / 5);
  }

  /** Somewhat more than the engine can do. */
  private static List<Arrival> saturated(int requests) {
    return new Workload(0.7, requests, ADAPTERS, 1.2, 7).arrivals(RequestLengths.conversations());
  }

  private static SimulationResult run(Policy policy, List<Arrival> arrivals) {
    return Simulation.run(config(32, policy), COST, 1024, arrivals);
  }

  private static SimulationResult cold(SimulationResult result) {
    return result.of(SimulationResult.coldestDecile(ADAPTERS));
  }

  private static SchedulerConfig config(int maxRunning, Policy policy) {
    return new SchedulerConfig(maxRunning, 256, 512, 64, 4096, 16, 8192, false, policy);
  }
}
