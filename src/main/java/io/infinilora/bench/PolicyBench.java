package io.infinilora.bench;

import io.infinilora.config.EngineConfig;
import io.infinilora.config.Policy;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.simulator.RequestLengths;
import io.infinilora.simulator.Simulation;
import io.infinilora.simulator.SimulationResult;
import io.infinilora.simulator.SimulationResult.Percentiles;
import io.infinilora.simulator.StepCost;
import io.infinilora.simulator.Workload;
import java.util.List;
import java.util.Locale;

/**
 * How long requests wait under each policy, on a simulated clock: 100 adapters with Zipf(1.2)
 * popularity, lengths of production conversations, the engine's default limits. Prints a Markdown
 * table.
 *
 * <p>Usage: {@code PolicyBench REQUESTS SEED RATE...}, rates in requests per second.
 */
public final class PolicyBench {
  private static final int ADAPTERS = 100;
  private static final double SKEW = 1.2;
  private static final int KV_BLOCKS = 4096;
  private static final int CONTEXT = 8192;
  private static final int MAX_TOKENS = 1024;

  /** What docs/performance.md measured for SmolLM2-135M on two CPU cores. */
  private static final StepCost COST = new StepCost(0.0068, 0.0025, 0.0016);

  private PolicyBench() {}

  /** Runs the benchmark. */
  public static void main(String[] args) {
    int requests = Integer.parseInt(args[0]);
    long seed = Long.parseLong(args[1]);
    System.out.println(
        "| requests/s | policy | adapters | served | refused | queueing P50 / P95 / P99, s | TTFT P50 / P95 / P99, s |");
    System.out.println("| --- | --- | --- | --- | --- | --- | --- |");
    for (int i = 2; i < args.length; i++) {
      double rate = Double.parseDouble(args[i]);
      List<Workload.Arrival> arrivals =
          new Workload(rate, requests, ADAPTERS, SKEW, seed)
              .arrivals(RequestLengths.conversations());
      for (Policy policy : Policy.values()) {
        SimulationResult result = Simulation.run(config(policy), COST, MAX_TOKENS, arrivals);
        print(rate, policy, "all", result);
        print(rate, policy, "coldest decile", result.of(SimulationResult.coldestDecile(ADAPTERS)));
      }
    }
  }

  private static void print(double rate, Policy policy, String adapters, SimulationResult result) {
    System.out.printf(
        Locale.ROOT,
        "| %s | %s | %s | %d | %d | %s | %s |%n",
        rate,
        policy.name().toLowerCase(Locale.ROOT).replace('_', '-'),
        adapters,
        result.served().size(),
        result.refused().size(),
        text(result.percentiles(SimulationResult.Served::queueing)),
        text(result.percentiles(SimulationResult.Served::timeToFirstToken)));
  }

  private static String text(Percentiles p) {
    return String.format(Locale.ROOT, "%.1f / %.1f / %.1f", p.p50(), p.p95(), p.p99());
  }

  private static SchedulerConfig config(Policy policy) {
    return new SchedulerConfig(
        EngineConfig.DEFAULT_MAX_RUNNING,
        EngineConfig.DEFAULT_MAX_WAITING,
        EngineConfig.DEFAULT_MAX_BATCHED_TOKENS,
        EngineConfig.DEFAULT_PREFILL_CHUNK,
        KV_BLOCKS,
        SchedulerConfig.DEFAULT_BLOCK_SIZE,
        CONTEXT,
        false,
        policy);
  }
}
