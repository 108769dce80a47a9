package io.infinilora.adapter;

import io.infinilora.backend.Backend;
import io.infinilora.backend.LoraMemory;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterMemoryStats;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoadedAdapter;
import io.infinilora.core.LoraShard;
import io.infinilora.core.ModelSpec;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Executor;
import java.util.function.Consumer;
import java.util.function.LongSupplier;

/**
 * All that one shard knows and holds of adapters: the catalogue, the tiers disk, host and device,
 * and who claims what. The owner's thread only, except where noted.
 */
public final class AdapterTiers implements AutoCloseable {
  /** How long a miss waits before adapters that are always in use are drained. */
  private static final long DRAIN_PATIENCE_NANOS = 1_000_000_000;

  private final ModelSpec spec;
  private final LoraShard shard;
  private final Backend backend;
  private final SourceResolver sources;
  private final LoraMemory memory;
  private final ResidentAdapters residents = new ResidentAdapters();
  private final AdapterCatalog catalog = new AdapterCatalog();
  private final Map<AdapterId, List<Runnable>> whenUnused = new HashMap<>();
  private final AdapterLoader loader;
  private final AdapterCache cache;
  private volatile AdapterMemoryStats stats;

  /**
   * Empty tiers; the loader thread starts.
   *
   * @param name for the thread
   * @param budgets bytes of device and host memory
   * @param sources finds adapters' files
   * @param owner runs a task on the owner's thread
   * @param safePoint runs a task on the driver thread, between two uses of adapters
   * @param layerNanos what a layer takes to compute at the moment
   */
  public AdapterTiers(
      String name,
      ModelSpec spec,
      LoraShard shard,
      Backend backend,
      AdapterBudgets budgets,
      SourceResolver sources,
      Executor owner,
      Consumer<Runnable> safePoint,
      LongSupplier layerNanos) {
    this.spec = spec;
    this.shard = shard;
    this.backend = backend;
    this.sources = sources;
    this.memory = backend.loraMemory(budgets.deviceBytes());
    this.loader =
        new AdapterLoader(
            name,
            backend,
            memory,
            this::open,
            budgets.hostBytes(),
            residents,
            task ->
                owner.execute(
                    () -> {
                      task.run();
                      measure();
                    }),
            safePoint,
            layerNanos);
    this.cache = new AdapterCache(memory.pages(), budgets.policy(), loader);
    loader.attach(cache);
    measure();
  }

  /** After every change, for those who read the figures on other threads. */
  private void measure() {
    stats =
        new AdapterMemoryStats(
            cache.stats(),
            new AdapterMemoryStats.Tier(
                cache.completeAdapters(),
                cache.reservedPages() * memory.pageBytes(),
                memory.pages() * memory.pageBytes()),
            loader.hostStats(),
            catalog.size());
  }

  /**
   * Reads and checks an adapter, down to the last value, and publishes nothing. Any thread but an
   * event loop: it reads the whole file, and may download it first.
   *
   * @throws InfiniLoraException BAD_ADAPTER naming the file and the key at fault, or if the adapter
   *     is larger than the device memory for adapters; INVALID_REQUEST if it may not come from
   *     there
   */
  public ReadAdapter read(AdapterRegistration adapter) {
    Path directory = sources.directory(adapter.source(), adapter.trusted());
    ReadAdapter read = AdapterFiles.read(adapter.name(), directory, spec, shard, backend);
    AdapterGeneration generation = read.generation();
    if (generation.pages() > memory.pages()) {
      throw new InfiniLoraException(
          ErrorCode.BAD_ADAPTER,
          "%s: needs %d bytes of adapter memory, the budget is %d"
              .formatted(
                  directory,
                  generation.pages() * memory.pageBytes(),
                  memory.pages() * memory.pageBytes()));
    }
    return read;
  }

  /** What reading an adapter has shown; publishing it changes where it is. */
  public LoadedAdapter loaded(ReadAdapter read) {
    return new LoadedAdapter(status(read.generation()), read.norms());
  }

  private OpenAdapter open(AdapterGeneration generation) {
    return AdapterFiles.open(generation, spec, shard);
  }

  /**
   * Makes a generation the one that new requests for its name take.
   *
   * @return the generation that it replaces, to be {@linkplain #retire retired} when requests that
   *     chose it just before have claimed it
   */
  public Optional<AdapterGeneration> publish(AdapterGeneration generation) {
    Optional<AdapterGeneration> before = catalog.publish(generation);
    measure();
    return before;
  }

  /**
   * Takes a name away from new requests; running ones go on.
   *
   * @return the generation, to be retired likewise
   */
  public Optional<AdapterGeneration> withdraw(String name) {
    Optional<AdapterGeneration> before = catalog.withdraw(name);
    measure();
    return before;
  }

  /** Lets a generation go that is not current, as soon as nobody claims it. */
  public void retire(AdapterGeneration generation) {
    whenUnused(
        generation,
        () -> {
          if (!catalog.isCurrent(generation.id())) {
            cache.forget(generation);
            catalog.forget(generation.id());
            loader.forget(generation.id());
            measure();
          }
        });
  }

  /**
   * Claims a generation, current or not.
   *
   * @param now {@link System#nanoTime}
   * @param deadline {@link System#nanoTime} after which the claim fails if it is not admissible
   * @throws InfiniLoraException MODEL_NOT_FOUND if it is not known any more
   */
  public AdapterCache.Claim claim(AdapterId id, long now, long deadline, ClaimListener listener) {
    AdapterGeneration generation =
        catalog
            .find(id)
            .orElseThrow(
                () ->
                    new InfiniLoraException(
                        ErrorCode.MODEL_NOT_FOUND,
                        "there is no adapter %s any more".formatted(id)));
    AdapterCache.Claim claim = cache.claim(generation, now, deadline, listener);
    measure();
    return claim;
  }

  /** Ends a claim; a generation that was replaced leaves with its last one. */
  public void release(AdapterCache.Claim claim) {
    cache.release(claim);
    measure();
    AdapterGeneration generation = claim.generation();
    if (cache.claims(generation.id()) == 0) {
      List<Runnable> waiting = whenUnused.remove(generation.id());
      if (waiting != null) {
        waiting.forEach(Runnable::run);
      }
    }
  }

  /** Runs a task when nobody claims a generation any more: now, or with the last release. */
  public void whenUnused(AdapterGeneration generation, Runnable task) {
    if (cache.claims(generation.id()) == 0) {
      task.run();
    } else {
      whenUnused.computeIfAbsent(generation.id(), id -> new ArrayList<>()).add(task);
    }
  }

  /** Keeps an adapter in device memory, or not any more. */
  public void pin(String name, boolean pinned) {
    AdapterGeneration generation = require(name);
    if (pinned) {
      cache.pin(generation);
    } else {
      cache.unpin(generation);
    }
    measure();
  }

  /** Loads an adapter ahead of requests, if there is room. */
  public void prefetch(String name) {
    cache.prefetch(require(name));
    measure();
  }

  private AdapterGeneration require(String name) {
    return catalog
        .current(name)
        .orElseThrow(
            () ->
                new InfiniLoraException(
                    ErrorCode.MODEL_NOT_FOUND, "there is no adapter named %s".formatted(name)));
  }

  /** Fails claims that are late and drains adapters that keep others out; to be called often. */
  public void tick(long now) {
    cache.expire(now);
    cache.relieve(now, DRAIN_PATIENCE_NANOS);
    measure();
  }

  /** The current generation of a name. */
  public Optional<AdapterGeneration> current(String name) {
    return catalog.current(name);
  }

  /** The current generations in order of registration. */
  public List<AdapterGeneration> list() {
    return catalog.list();
  }

  /** Where an adapter is. */
  public AdapterStatus status(AdapterGeneration generation) {
    AdapterId id = generation.id();
    return new AdapterStatus(
        id,
        generation.source().toString(),
        generation.targets(),
        generation.maxRank(),
        generation.fileBytes(),
        generation.pages() * memory.pageBytes(),
        tier(id),
        cache.pinned(id),
        cache.claims(id));
  }

  private AdapterStatus.Tier tier(AdapterId id) {
    if (cache.complete(id)) {
      return AdapterStatus.Tier.DEVICE;
    }
    if (cache.resident(id).isPresent()) {
      return AdapterStatus.Tier.LOADING;
    }
    return loader.onHost(id) ? AdapterStatus.Tier.HOST : AdapterStatus.Tier.DISK;
  }

  /** Decisions and figures of the device tier. */
  public AdapterCache cache() {
    return cache;
  }

  /** Figures of this moment; any thread. */
  public AdapterMemoryStats stats() {
    return stats;
  }

  /** What drivers find by slot; any thread. */
  public ResidentAdapters residents() {
    return residents;
  }

  /** Stops the loader and frees all memory. Blocks; streams must not use adapters any more. */
  @Override
  public void close() {
    loader.close();
    memory.close();
  }
}
