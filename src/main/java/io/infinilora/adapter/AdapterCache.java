package io.infinilora.adapter;

import io.infinilora.core.AdapterCacheStats;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.util.List;
import java.util.Optional;

/**
 * Decides which adapters are in device memory. A pure state machine: the owner's thread only, no
 * clock, no I/O; a {@link AdapterLoads} does what it decides and reports back.
 *
 * <p>An adapter is <i>absent</i>, <i>queued</i> for memory, <i>loading</i>, <i>resident</i> or
 * <i>leaving</i>. All its pages are reserved before its first layer is loaded, so loads never wait
 * for each other. A claim is admissible as soon as the first layer is ready; later ones race ahead
 * of the compute. Adapters with claims or pins never leave. Misses get memory in the order in which
 * they came, so that a large adapter is not overtaken for ever; hits wait for nobody.
 *
 * <p>Adapters that are always in use would keep all others out. So when the first miss has waited
 * for some time, those that were held longest are <i>drained</i>: their holders are asked to let go
 * when what they compute has ended, and whoever claims them meanwhile waits in the line like
 * everybody else.
 */
public final class AdapterCache {

  /** A hold on an adapter, from {@link #claim} until {@link #release}. */
  public static final class Claim {
    private final CacheEntry entry;
    private final long since;
    private final long deadline;
    private final ClaimListener listener;
    private boolean told;
    private boolean over;

    private Claim(CacheEntry entry, long since, long deadline, ClaimListener listener) {
      this.entry = entry;
      this.since = since;
      this.deadline = deadline;
      this.listener = listener;
    }

    /** What is claimed. */
    public AdapterGeneration generation() {
      return entry.generation();
    }

    /** When the claim was made. */
    long since() {
      return since;
    }

    /** Whether its listener has heard that it is admissible, or void. */
    boolean told() {
      return told;
    }
  }

  private final EvictionPolicy policy;
  private final AdapterLoads loads;
  private final CacheTable table;
  private final RoomPlan room;

  private long claims;
  private long immediate;
  private long started;
  private long cancelled;
  private long failures;
  private long evictions;
  private long drains;

  /**
   * An empty cache.
   *
   * @param pages device pages
   */
  public AdapterCache(int pages, EvictionPolicy policy, AdapterLoads loads) {
    this.policy = policy;
    this.loads = loads;
    this.table = new CacheTable(pages);
    this.room = new RoomPlan(table, policy);
  }

  /**
   * Claims an adapter; it is loaded if it is not there. The listener may be called before this
   * returns.
   *
   * @param now the present time
   * @param deadline time after which the claim fails if the adapter is not admissible by then
   * @throws InfiniLoraException OVERLOADED if the adapter is larger than the whole memory
   */
  public Claim claim(
      AdapterGeneration generation, long now, long deadline, ClaimListener listener) {
    table.checkSize(generation);
    CacheEntry entry = table.enter(generation);
    Claim claim = new Claim(entry, now, deadline, listener);
    entry.claimed(claim);
    claims++;
    entry.usage().used(claims);
    entry.usage().reloadCost(loads.reloadCost(generation));
    policy.used(entry.usage());
    if (entry.usable()) {
      immediate++;
      tell(claim);
    } else if (entry.is(CacheEntry.State.LOADING)) {
      loads.hurry(entry.adapter());
    }
    serve();
    return claim;
  }

  /** Ends a claim, told or not; again has no effect. */
  public void release(Claim claim) {
    if (claim.over) {
      return;
    }
    claim.over = true;
    CacheEntry entry = claim.entry;
    entry.released(claim);
    if (entry.draining() && !entry.inUse() && !entry.is(CacheEntry.State.LEAVING)) {
      evict(entry);
    } else {
      unwanted(entry);
    }
    serve();
  }

  /**
   * Drains adapters if the first miss has waited for more than {@code patience}; to be called now
   * and then.
   */
  public void relieve(long now, long patience) {
    CacheEntry first = table.first();
    if (first == null || !first.wanted() || now - first.queuedAt() <= patience) {
      return;
    }
    for (CacheEntry entry : room.toDrain(first)) {
      entry.drain();
      drains++;
      for (Claim claim : entry.claims()) {
        if (claim.told) {
          claim.listener.revoked();
        }
      }
    }
  }

  /** Loads an adapter ahead of requests, if idle adapters leave enough room; at most a hint. */
  public void prefetch(AdapterGeneration generation) {
    if (generation.pages() > table.pages() || table.find(generation.id()) != null) {
      return;
    }
    table.enter(generation).prefetched(true);
    serve();
  }

  /**
   * Loads an adapter and keeps it, whether it is used or not. One that is being drained stays, and
   * its memory is found elsewhere; one that is leaving already comes back.
   *
   * @throws InfiniLoraException OVERLOADED if what is pinned would not fit the memory
   */
  public void pin(AdapterGeneration generation) {
    table.checkPin(generation);
    CacheEntry entry = table.enter(generation);
    entry.pinned(true);
    if (entry.draining() && !entry.is(CacheEntry.State.LEAVING)) {
      entry.stay();
      if (entry.usable()) {
        entry.claims().forEach(this::tell); // Those who came meanwhile.
      }
    }
    serve();
  }

  /** Takes a pin back. */
  public void unpin(AdapterGeneration generation) {
    CacheEntry entry = table.find(generation.id());
    if (entry != null && entry.pinned()) {
      entry.pinned(false);
      unwanted(entry);
      serve();
    }
  }

  /** Forgets an adapter that was unregistered: it leaves as soon as nobody claims it. */
  public void forget(AdapterGeneration generation) {
    table.forgetUsage(generation.id());
    CacheEntry entry = table.find(generation.id());
    if (entry == null) {
      return;
    }
    entry.pinned(false);
    entry.prefetched(false);
    unwanted(entry);
    if (entry.idle()) {
      leave(entry);
    }
    serve();
  }

  /** The loader has made all layers of an adapter up to this one ready. */
  public void layerReady(ResidentAdapter adapter, int layer) {
    CacheEntry entry = table.find(adapter);
    if (entry == null || !entry.is(CacheEntry.State.LOADING)) {
      return; // It is leaving.
    }
    boolean first = entry.ready(layer + 1);
    if (entry.allReady()) {
      table.completed(entry);
      entry.prefetched(false);
    }
    if (first && !entry.draining()) {
      entry.claims().forEach(this::tell);
    }
    serve();
  }

  /** The loader could not load an adapter; its claims fail, told or not, and it leaves. */
  public void loadFailed(ResidentAdapter adapter, InfiniLoraException cause) {
    CacheEntry entry = table.find(adapter);
    if (entry == null || !entry.is(CacheEntry.State.LOADING)) {
      return;
    }
    failures++;
    entry.pinned(false);
    entry.prefetched(false);
    leave(entry);
    entry.claims().forEach(claim -> fail(claim, cause));
    serve();
  }

  /** The memory of an adapter is free again. */
  public void freed(ResidentAdapter adapter) {
    CacheEntry entry = table.find(adapter);
    if (entry == null || !entry.is(CacheEntry.State.LEAVING)) {
      throw new IllegalStateException(adapter + " was not leaving");
    }
    table.freed(entry);
    serve();
  }

  /** Fails claims that are not admissible though their deadline is before {@code now}. */
  public void expire(long now) {
    List<Claim> late =
        table.entries().stream()
            .flatMap(entry -> entry.claims().stream())
            .filter(claim -> !claim.told && claim.deadline - now < 0)
            .toList();
    for (Claim claim : late) {
      fail(
          claim,
          new InfiniLoraException(
              ErrorCode.OVERLOADED,
              "adapter %s did not get into memory in time: %d of %d pages are in use"
                  .formatted(claim.generation().id().name(), table.inUse(), table.pages())));
    }
    serve();
  }

  /** The adapter in device memory, complete or not. */
  public Optional<ResidentAdapter> resident(AdapterId id) {
    return Optional.ofNullable(table.find(id))
        .filter(e -> e.is(CacheEntry.State.LOADING) || e.is(CacheEntry.State.RESIDENT))
        .map(CacheEntry::adapter);
  }

  /** Whether a claim would be admissible at once. */
  public boolean admissible(AdapterId id) {
    CacheEntry entry = table.find(id);
    return entry != null && entry.usable();
  }

  /** Whether all layers are in device memory. */
  public boolean complete(AdapterId id) {
    CacheEntry entry = table.find(id);
    return entry != null && entry.is(CacheEntry.State.RESIDENT);
  }

  /** Whether the adapter is pinned. */
  public boolean pinned(AdapterId id) {
    CacheEntry entry = table.find(id);
    return entry != null && entry.pinned();
  }

  /** Number of claims on an adapter. */
  public int claims(AdapterId id) {
    CacheEntry entry = table.find(id);
    return entry == null ? 0 : entry.claimCount();
  }

  /** Device pages. */
  public int pages() {
    return table.pages();
  }

  /** Pages that are reserved. */
  public int reservedPages() {
    return table.reserved();
  }

  /** Number of adapters whose layers are all in device memory. */
  public int completeAdapters() {
    return table.complete();
  }

  /** Figures since the start. */
  public AdapterCacheStats stats() {
    return new AdapterCacheStats(
        claims, immediate, started, cancelled, failures, evictions, drains);
  }

  /**
   * Checks that pages and states agree.
   *
   * @throws IllegalStateException naming the first inconsistency
   */
  public void checkInvariants() {
    table.checkInvariants();
  }

  private void tell(Claim claim) {
    if (!claim.told && !claim.over) {
      claim.told = true;
      claim.listener.admissible(claim.entry.adapter());
    }
  }

  private void fail(Claim claim, InfiniLoraException cause) {
    release(claim);
    claim.told = true;
    claim.listener.failed(cause);
  }

  /** Gives up what nobody wants any more, unless it is complete. */
  private void unwanted(CacheEntry entry) {
    if (entry.wanted() || entry.prefetched()) {
      return;
    }
    if (entry.is(CacheEntry.State.QUEUED)) {
      table.leaveLine(entry);
    } else if (entry.is(CacheEntry.State.LOADING) && entry.adapter().complete()) {
      // The reports of its last layers are on their way; they will not be heeded any more.
      table.completed(entry);
    } else if (entry.is(CacheEntry.State.LOADING)) {
      cancelled++;
      leave(entry);
    }
  }

  private void evict(CacheEntry entry) {
    evictions++;
    policy.evicted(entry.usage());
    leave(entry);
  }

  private void leave(CacheEntry entry) {
    table.leaving(entry);
    loads.free(entry.adapter());
  }

  /** Starts loads, first come first served, as far as memory allows; makes room for the first. */
  private void serve() {
    for (CacheEntry next = table.first(); next != null; next = table.first()) {
      if (table.missing(next) > 0) {
        makeRoom(next);
        return;
      }
      started++;
      table.loading(next, loads.start(next.generation(), next.wanted()));
    }
  }

  private void makeRoom(CacheEntry reason) {
    Optional<List<CacheEntry>> victims = room.victims(reason);
    if (victims.isEmpty() && !reason.wanted()) {
      reason.prefetched(false);
      unwanted(reason);
    }
    for (CacheEntry victim : victims.orElse(List.of())) {
      victim.prefetched(false);
      evict(victim);
    }
  }
}
