package io.infinilora.adapter;

import io.infinilora.backend.Backend;
import io.infinilora.backend.LoraImage;
import io.infinilora.backend.LoraLayer;
import io.infinilora.backend.LoraMemory;
import io.infinilora.backend.Signal;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoadException;
import io.infinilora.core.AdapterMemoryStats;
import io.infinilora.core.InfiniLoraException;
import java.util.ArrayDeque;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Map;
import java.util.PriorityQueue;
import java.util.Queue;
import java.util.concurrent.Executor;
import java.util.function.Consumer;
import java.util.function.LongSupplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Brings adapters from disk to device memory on a thread of its own, layer by layer, beside the
 * compute. Whose next layer is needed first is served first: layer n of an adapter is needed n
 * layer times after its load began. So adapters that are loaded at the same time take turns, and
 * every request can start with layer 0 of its own.
 */
public final class AdapterLoader implements AdapterLoads, AutoCloseable {

  private static final Logger log = LoggerFactory.getLogger(AdapterLoader.class);

  /** Opens adapters for loading. */
  @FunctionalInterface
  public interface Source {

    /**
     * Opens an adapter's file.
     *
     * @throws InfiniLoraException BAD_ADAPTER if it is not what was registered any more
     */
    OpenAdapter open(AdapterGeneration generation);
  }

  /** An adapter that is being loaded. */
  private static final class Job {
    final ResidentAdapter adapter;
    final long started;
    boolean urgent;
    boolean over;
    int next;
    OpenAdapter open;

    Job(ResidentAdapter adapter, long started, boolean urgent) {
      this.adapter = adapter;
      this.started = started;
      this.urgent = urgent;
    }
  }

  private final Backend backend;
  private final LoraMemory memory;
  private final Source source;
  private final HostTier host;
  private final ResidentAdapters residents;
  private final Executor owner;
  private final Consumer<Runnable> safePoint;
  private final LongSupplier layerNanos;
  private final Thread thread;
  private AdapterCache cache;

  // Guarded by this.
  private final Map<ResidentAdapter, Job> jobs = new HashMap<>();
  private final PriorityQueue<Job> pending =
      new PriorityQueue<>(Comparator.comparing((Job j) -> !j.urgent).thenComparingLong(this::need));
  private final Queue<ResidentAdapter> toFree = new ArrayDeque<>();
  private final Queue<AdapterId> toForget = new ArrayDeque<>();

  /** Files of loads that were given up between two layers. */
  private final Queue<OpenAdapter> toClose = new ArrayDeque<>();

  private final Queue<Signal> spareSignals = new ArrayDeque<>();
  private int lastSlot;
  private boolean closed;

  // Written by the loader thread; 0 until measured.
  private volatile double hostNanosPerPage;
  private volatile double diskNanosPerPage;

  /**
   * Starts the thread; {@link #attach} comes before the first load.
   *
   * @param hostBytes budget of the host tier
   * @param residents is kept up to date
   * @param owner runs reports on the cache's thread
   * @param safePoint runs a task on the driver thread, between two uses of adapters
   * @param layerNanos what a layer takes to compute at the moment
   */
  public AdapterLoader(
      String name,
      Backend backend,
      LoraMemory memory,
      Source source,
      long hostBytes,
      ResidentAdapters residents,
      Executor owner,
      Consumer<Runnable> safePoint,
      LongSupplier layerNanos) {
    this.backend = backend;
    this.memory = memory;
    this.source = source;
    this.host = new HostTier(hostBytes);
    this.residents = residents;
    this.owner = owner;
    this.safePoint = safePoint;
    this.layerNanos = layerNanos;
    this.thread = Thread.ofPlatform().name(name).daemon().start(this::run);
  }

  /** The cache that loads are reported to. */
  public void attach(AdapterCache newCache) {
    cache = newCache;
  }

  /** Figures of the host tier; any thread. */
  AdapterMemoryStats.Tier hostStats() {
    return new AdapterMemoryStats.Tier(host.adapters(), host.bytes(), host.budget());
  }

  /** Whether all of an adapter is in the host tier; any thread. */
  public boolean onHost(AdapterId id) {
    return host.complete(id);
  }

  private long need(Job job) {
    return job.started + job.next * layerNanos.getAsLong();
  }

  @Override
  public synchronized ResidentAdapter start(AdapterGeneration generation, boolean urgent) {
    ResidentAdapter adapter = new ResidentAdapter(generation, ++lastSlot, signal());
    residents.add(adapter);
    Job job = new Job(adapter, System.nanoTime(), urgent);
    jobs.put(adapter, job);
    pending.add(job);
    notifyAll();
    return adapter;
  }

  /** Signals last as long as the backend, so those of adapters that left are used again. */
  private Signal signal() {
    Signal spare = spareSignals.poll();
    return spare == null ? backend.signal() : spare;
  }

  @Override
  public synchronized void hurry(ResidentAdapter adapter) {
    Job job = jobs.get(adapter);
    if (job != null && !job.urgent) {
      boolean queued = pending.remove(job);
      job.urgent = true;
      if (queued) {
        pending.add(job);
      }
    }
  }

  @Override
  public synchronized void free(ResidentAdapter adapter) {
    Job job = jobs.remove(adapter);
    if (job != null) {
      job.over = true;
      if (pending.remove(job) && job.open != null) {
        toClose.add(job.open);
      }
    }
    toFree.add(adapter);
    notifyAll();
  }

  /** Gives back the host memory of an adapter that will not be asked for again. */
  synchronized void forget(AdapterId id) {
    toForget.add(id);
    notifyAll();
  }

  @Override
  public double reloadCost(AdapterGeneration generation) {
    double fromHost = hostNanosPerPage;
    return fromHost == 0 || host.complete(generation.id())
        ? 1
        : Math.max(1, diskNanosPerPage / fromHost);
  }

  private void run() {
    while (true) {
      AdapterId forgotten;
      ResidentAdapter leaving;
      OpenAdapter unused;
      Job job;
      synchronized (this) {
        while (!closed
            && toForget.isEmpty()
            && toFree.isEmpty()
            && toClose.isEmpty()
            && pending.isEmpty()) {
          try {
            wait();
          } catch (InterruptedException e) {
            return;
          }
        }
        if (closed) {
          break;
        }
        forgotten = toForget.poll();
        leaving = forgotten == null ? toFree.poll() : null;
        unused = forgotten == null && leaving == null ? toClose.poll() : null;
        job = forgotten == null && leaving == null && unused == null ? pending.poll() : null;
      }
      try {
        if (forgotten != null) {
          host.drop(forgotten);
        } else if (leaving != null) {
          ResidentAdapter adapter = leaving;
          safePoint.accept(() -> release(adapter));
        } else if (unused != null) {
          close(unused);
        } else {
          advance(job);
        }
      } catch (RuntimeException | Error e) {
        log.error("the loader goes on with the next adapter", e);
      }
    }
  }

  /** Driver thread: no operator uses the adapter now, and none will find it. */
  private void release(ResidentAdapter adapter) {
    residents.remove(adapter);
    for (int layer = 0; layer < adapter.layers(); layer++) {
      LoraLayer held = adapter.layer(layer);
      if (held != null) {
        memory.free(held);
      }
    }
    synchronized (this) {
      spareSignals.add(adapter.ready());
    }
    owner.execute(() -> cache.freed(adapter));
  }

  /** Loads the next layer that has weights, and all empty ones before it and at the end. */
  private void advance(Job job) {
    ResidentAdapter adapter = job.adapter;
    int[] pages = adapter.generation().layerPages();
    try {
      while (job.next < pages.length && pages[job.next] == 0) {
        adapter.add(job.next++, null);
      }
      if (job.next < pages.length) {
        adapter.add(job.next, load(job, job.next));
        job.next++;
      }
      while (job.next < pages.length && pages[job.next] == 0) {
        adapter.add(job.next++, null);
      }
    } catch (RuntimeException | Error e) {
      // Also if nobody waits for it: that is how a pin is lost.
      log.warn("adapter {} cannot be loaded", adapter.generation().id(), e);
      AdapterLoadException cause = AdapterLoadException.of(adapter.generation().id(), e);
      adapter.fail(cause);
      owner.execute(() -> cache.loadFailed(adapter, cause));
      requeue(job, false);
      return;
    }
    int ready = job.next - 1;
    requeue(job, ready + 1 < pages.length);
    owner.execute(() -> cache.layerReady(adapter, ready));
  }

  private void requeue(Job job, boolean more) {
    synchronized (this) {
      if (more && !job.over) {
        pending.add(job);
        return;
      }
      jobs.remove(job.adapter);
    }
    if (job.open != null) {
      close(job.open);
    }
  }

  /** What was read of a file is good even if it cannot be closed. */
  private static void close(OpenAdapter file) {
    try {
      file.close();
    } catch (RuntimeException | Error e) {
      log.error("the file of an adapter cannot be closed", e);
    }
  }

  private LoraLayer load(Job job, int index) {
    AdapterGeneration generation = job.adapter.generation();
    AdapterId id = generation.id();
    long begun = System.nanoTime();
    LoraImage image = host.get(id, index);
    if (image != null) {
      LoraLayer layer = memory.load(image);
      hostNanosPerPage = average(hostNanosPerPage, begun, image.pages());
      return layer;
    }
    if (job.open == null) {
      job.open = source.open(generation);
    }
    image = backend.loraImage(job.open.layer(index));
    LoraLayer layer;
    try {
      layer = memory.load(image);
    } catch (RuntimeException | Error e) {
      image.close();
      throw e;
    }
    diskNanosPerPage = average(diskNanosPerPage, begun, image.pages());
    if (!host.offer(generation, index, image)) {
      image.close();
    }
    return layer;
  }

  private static double average(double before, long begun, int pages) {
    double now = (double) (System.nanoTime() - begun) / Math.max(1, pages);
    return before == 0 ? now : 0.9 * before + 0.1 * now;
  }

  /** Stops after the layer at hand. What is loaded stays until the memory is closed. */
  @Override
  public void close() {
    synchronized (this) {
      closed = true;
      notifyAll();
    }
    try {
      thread.join();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    jobs.values().stream().filter(j -> j.open != null).forEach(j -> close(j.open));
    toClose.forEach(AdapterLoader::close);
    host.close();
  }
}
