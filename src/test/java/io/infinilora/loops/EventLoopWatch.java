package io.infinilora.loops;

import static org.assertj.core.api.Assertions.assertThat;

import io.vertx.core.Vertx;
import io.vertx.core.VertxOptions;
import io.vertx.core.internal.VertxInternal;
import io.vertx.core.internal.threadchecker.BlockedThreadEvent;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadInfo;
import java.lang.management.ThreadMXBean;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * A {@link Vertx} whose blocked-thread checker looks often and has tight limits, and the judge of
 * what it finds. Tests that serve run on one and end with {@link #assertSilent}.
 *
 * <p>A task that takes long by the clock proves nothing on a busy machine: it may wait for a
 * processor, for the garbage collector or for the compiler. A task is guilty only if, beyond the
 * checker's limit, it is seen twice in a row
 *
 * <ul>
 *   <li><em>waiting</em>, for a lock or a signal, in a call from InfiniLoRA's code (but not for the
 *       locks of class loaders and of the log, which whoever holds them may be kept from giving up
 *       for want of a processor); or
 *   <li><em>computing</em> in InfiniLoRA's code, with {@link #MOST_CPU} of processor time spent
 *       between the first and the last sight. A thread that is kept from the processor spends none.
 * </ul>
 */
public final class EventLoopWatch {
  /** A task that takes longer than this is looked at. The default of Vert.x is 2 s. */
  private static final Duration LIMIT = Duration.ofMillis(100);

  /** How often the checker looks. */
  private static final Duration INTERVAL = Duration.ofMillis(20);

  /**
   * Processor time that a task may spend after it was first looked at: 300 ms. First requests load
   * hundreds of classes, which takes a good part of that.
   */
  static final Duration MOST_CPU = Duration.ofMillis(300);

  private static final String OURS = "io.infinilora.";
  private static final List<String> SHARED_LOCKS =
      List.of("java.lang.ClassLoader", "ch.qos.logback.");
  private static final String EVENT_LOOP = "vert.x-eventloop-thread";

  private final ThreadMXBean threads = ManagementFactory.getThreadMXBean();
  private final List<String> offences = new CopyOnWriteArrayList<>();
  private final CompletableFuture<String> first = new CompletableFuture<>();
  private final Vertx vertx;

  // Owned by the checker's timer thread.
  private final Map<Long, Sight> firstSights = new HashMap<>();
  private final Map<Long, Sight> lastSights = new HashMap<>();

  /**
   * A thread in the middle of a task.
   *
   * @param atNanos when
   * @param cpuNanos processor time that the thread has spent in its life
   * @param waits whether it waits for something, rather than runs or would like to
   * @param ours whether InfiniLoRA's code is on its stack
   */
  record Sight(long atNanos, long cpuNanos, boolean waits, boolean ours) {}

  /** Makes the {@link Vertx}. */
  public EventLoopWatch() {
    vertx =
        Vertx.vertx(
            new VertxOptions()
                .setBlockedThreadCheckInterval(INTERVAL.toMillis())
                .setBlockedThreadCheckIntervalUnit(TimeUnit.MILLISECONDS)
                .setMaxEventLoopExecuteTime(LIMIT.toMillis())
                .setMaxEventLoopExecuteTimeUnit(TimeUnit.MILLISECONDS));
    ((VertxInternal) vertx).blockedThreadChecker().setThreadBlockedHandler(this::look);
  }

  /** The watched instance. The caller closes it. */
  public Vertx vertx() {
    return vertx;
  }

  /** Completes with a description of the first offence. */
  public CompletableFuture<String> offence() {
    return first;
  }

  /** Fails with all offences so far and their stacks. */
  public void assertSilent() {
    assertThat(offences).as("tasks that blocked an event loop").isEmpty();
  }

  private void look(BlockedThreadEvent event) {
    Thread thread = event.thread();
    ThreadInfo info = threads.getThreadInfo(thread.threadId(), Integer.MAX_VALUE);
    if (info == null || !thread.getName().startsWith(EVENT_LOOP)) {
      return; // Worker threads may take their time.
    }
    long id = thread.threadId();
    StackTraceElement[] stack = info.getStackTrace();
    Sight now =
        new Sight(
            System.nanoTime(),
            threads.getThreadCpuTime(id),
            info.getThreadState() != Thread.State.RUNNABLE
                && SHARED_LOCKS.stream().noneMatch(name -> calls(stack, name)),
            calls(stack, OURS));
    Sight previous = lastSights.put(id, now);
    boolean sameTask = previous != null && event.duration() > now.atNanos - previous.atNanos;
    if (!sameTask) {
      firstSights.put(id, now);
      return;
    }
    String offence = judge(firstSights.get(id), previous, now);
    if (offence != null) {
      StringBuilder text = new StringBuilder(thread.getName() + " " + offence);
      text.append(" for ").append(event.duration() / 1_000_000).append(" ms");
      List.of(stack).forEach(frame -> text.append("\n    at ").append(frame));
      offences.add(text.toString());
      first.complete(text.toString());
    }
  }

  private static boolean calls(StackTraceElement[] stack, String prefix) {
    return Stream.of(stack).anyMatch(frame -> frame.getClassName().startsWith(prefix));
  }

  /** What a task is guilty of, from three sights of it; null if of nothing. */
  static String judge(Sight first, Sight previous, Sight now) {
    if (!previous.ours || !now.ours) {
      return null;
    }
    if (previous.waits && now.waits) {
      return "waited";
    }
    return now.cpuNanos - first.cpuNanos >= MOST_CPU.toNanos() ? "computed" : null;
  }
}
