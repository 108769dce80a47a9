package io.infinilora.adapter;

import io.infinilora.core.AdapterCacheStats;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
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
    private final Entry entry;
    private final long since;
    private final long deadline;
    private final ClaimListener listener;
    private boolean told;
    private boolean over;

    private Claim(Entry entry, long since, long deadline, ClaimListener listener) {
      this.entry = entry;
      this.since = since;
      this.deadline = deadline;
      this.listener = listener;
    }

    /** What is claimed. */
    public AdapterGeneration generation() {
      return entry.generation;
    }
  }

  private enum State {
    QUEUED,
    LOADING,
    RESIDENT,
    LEAVING
  }

  private static final class Entry {
    final AdapterGeneration generation;
    final AdapterUsage usage;
    final List<Claim> claims = new ArrayList<>();
    State state = State.QUEUED;
    ResidentAdapter adapter;
    int layersReady;
    long queuedAt;
    long heldSince;
    boolean draining;
    boolean pinned;
    boolean prefetched;

    Entry(AdapterGeneration generation, AdapterUsage usage) {
      this.generation = generation;
      this.usage = usage;
    }

    boolean wanted() {
      return pinned || !claims.isEmpty();
    }

    boolean idle() {
      return state == State.RESIDENT && !wanted();
    }

    /** Whether a miss may take its memory. */
    boolean evictable() {
      return idle() || (state == State.LOADING && !wanted());
    }

    /** Whether steps may use it now. */
    boolean inUse() {
      return claims.stream().anyMatch(c -> c.told);
    }
  }

  private final int pages;
  private final EvictionPolicy policy;
  private final AdapterLoads loads;

  /** Everything that is not absent. */
  private final Map<AdapterId, Entry> entries = new LinkedHashMap<>();

  private final Map<AdapterId, AdapterUsage> usages = new HashMap<>();
  private final Deque<Entry> queue = new ArrayDeque<>();

  /** Pages of entries that are loading, resident or leaving. */
  private int reserved;

  /** Entries that are resident. */
  private int complete;

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
    this.pages = pages;
    this.policy = policy;
    this.loads = loads;
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
    checkSize(generation);
    Entry entry = entry(generation);
    if (entry.claims.isEmpty()) {
      entry.heldSince = now;
      entry.queuedAt = now;
    }
    Claim claim = new Claim(entry, now, deadline, listener);
    entry.claims.add(claim);
    claims++;
    entry.usage.used(claims);
    entry.usage.reloadCost(loads.reloadCost(generation));
    policy.used(entry.usage);
    if (usable(entry)) {
      immediate++;
      tell(claim);
    } else if (entry.state == State.LOADING) {
      loads.hurry(entry.adapter);
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
    Entry entry = claim.entry;
    entry.claims.remove(claim);
    if (entry.draining && !entry.inUse() && entry.state != State.LEAVING) {
      evictions++;
      policy.evicted(entry.usage);
      leave(entry);
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
    Entry first = queue.isEmpty() ? null : urgentFirst();
    if (first == null || !first.wanted() || now - first.queuedAt <= patience) {
      return;
    }
    int missing = reserved + first.generation.pages() - pages;
    List<Entry> held = new ArrayList<>();
    for (Entry entry : entries.values()) {
      if (entry.state == State.LEAVING || entry.draining || entry.evictable()) {
        missing -= entry.generation.pages(); // On its way, or gone as soon as it is of any use.
      } else if (entry.state != State.QUEUED && !entry.pinned && entry.inUse()) {
        held.add(entry);
      }
    }
    held.sort(Comparator.comparingLong(e -> e.heldSince));
    for (Iterator<Entry> i = held.iterator(); missing > 0 && i.hasNext(); ) {
      Entry entry = i.next();
      missing -= entry.generation.pages();
      entry.draining = true;
      drains++;
      for (Claim claim : List.copyOf(entry.claims)) {
        if (claim.told) {
          claim.listener.revoked();
        }
      }
    }
  }

  /**
   * AdapterLoads an adapter ahead of requests, if idle adapters leave enough room; at most a hint.
   */
  public void prefetch(AdapterGeneration generation) {
    if (generation.pages() > pages || entries.containsKey(generation.id())) {
      return;
    }
    entry(generation).prefetched = true;
    serve();
  }

  /**
   * AdapterLoads an adapter and keeps it, whether it is used or not.
   *
   * @throws InfiniLoraException OVERLOADED if what is pinned would not fit the memory
   */
  public void pin(AdapterGeneration generation) {
    int pinned = generation.pages();
    for (Entry e : entries.values()) {
      pinned += e.pinned && !e.generation.id().equals(generation.id()) ? e.generation.pages() : 0;
    }
    if (pinned > pages) {
      throw new InfiniLoraException(
          ErrorCode.OVERLOADED,
          "adapter %s cannot be pinned: the pinned adapters would take %d pages, there are %d"
              .formatted(generation.id(), pinned, pages));
    }
    entry(generation).pinned = true;
    serve();
  }

  /** Takes a pin back. */
  public void unpin(AdapterGeneration generation) {
    Entry entry = entries.get(generation.id());
    if (entry != null && entry.pinned) {
      entry.pinned = false;
      unwanted(entry);
      serve();
    }
  }

  /** Forgets an adapter that was unregistered: it leaves as soon as nobody claims it. */
  public void forget(AdapterGeneration generation) {
    usages.remove(generation.id());
    Entry entry = entries.get(generation.id());
    if (entry == null) {
      return;
    }
    entry.pinned = false;
    entry.prefetched = false;
    unwanted(entry);
    if (entry.idle()) {
      leave(entry);
    }
    serve();
  }

  /** The loader has made all layers of an adapter up to this one ready. */
  public void layerReady(ResidentAdapter adapter, int layer) {
    Entry entry = entries.get(adapter.generation().id());
    if (entry == null || entry.adapter != adapter || entry.state != State.LOADING) {
      return; // It is leaving.
    }
    boolean first = entry.layersReady == 0;
    entry.layersReady = layer + 1;
    if (entry.layersReady == adapter.layers()) {
      move(entry, State.RESIDENT);
      entry.prefetched = false;
    }
    if (first && !entry.draining) {
      List.copyOf(entry.claims).forEach(this::tell);
    }
    serve();
  }

  /** The loader could not load an adapter; its claims fail, and it leaves. */
  public void loadFailed(ResidentAdapter adapter, InfiniLoraException cause) {
    Entry entry = entries.get(adapter.generation().id());
    if (entry == null || entry.adapter != adapter || entry.state != State.LOADING) {
      return;
    }
    failures++;
    entry.pinned = false;
    entry.prefetched = false;
    leave(entry);
    for (Claim claim : List.copyOf(entry.claims)) {
      fail(claim, cause);
    }
    serve();
  }

  /** The memory of an adapter is free again. */
  public void freed(ResidentAdapter adapter) {
    Entry entry = entries.get(adapter.generation().id());
    if (entry == null || entry.adapter != adapter || entry.state != State.LEAVING) {
      throw new IllegalStateException(adapter + " was not leaving");
    }
    reserved -= entry.generation.pages();
    entry.adapter = null;
    entry.layersReady = 0;
    entry.draining = false;
    if (entry.wanted()) {
      if (!entry.claims.isEmpty()) {
        // Those who hold it now are not those who held it before it left.
        entry.queuedAt = entry.heldSince = entry.claims.getFirst().since;
      }
      move(entry, State.QUEUED);
      queue.add(entry);
    } else {
      entries.remove(entry.generation.id());
    }
    serve();
  }

  /** Fails claims that are not admissible though their deadline is before {@code now}. */
  public void expire(long now) {
    List<Claim> late = new ArrayList<>();
    for (Entry entry : entries.values()) {
      for (Claim claim : entry.claims) {
        if (!claim.told && claim.deadline - now < 0) {
          late.add(claim);
        }
      }
    }
    for (Claim claim : late) {
      fail(
          claim,
          new InfiniLoraException(
              ErrorCode.OVERLOADED,
              "adapter %s did not get into memory in time: %d of %d pages are in use"
                  .formatted(claim.generation().id().name(), inUse(), pages)));
    }
    serve();
  }

  /** The adapter in device memory, complete or not. */
  public Optional<ResidentAdapter> resident(AdapterId id) {
    return Optional.ofNullable(entries.get(id))
        .filter(e -> e.state == State.LOADING || e.state == State.RESIDENT)
        .map(e -> e.adapter);
  }

  /** Whether a claim would be admissible at once. */
  public boolean admissible(AdapterId id) {
    Entry entry = entries.get(id);
    return entry != null && usable(entry);
  }

  private static boolean usable(Entry entry) {
    return entry.layersReady > 0 && entry.state != State.LEAVING && !entry.draining;
  }

  /** Whether all layers are in device memory. */
  public boolean complete(AdapterId id) {
    Entry entry = entries.get(id);
    return entry != null && entry.state == State.RESIDENT;
  }

  /** Whether the adapter is pinned. */
  public boolean pinned(AdapterId id) {
    Entry entry = entries.get(id);
    return entry != null && entry.pinned;
  }

  /** Number of claims on an adapter. */
  public int claims(AdapterId id) {
    Entry entry = entries.get(id);
    return entry == null ? 0 : entry.claims.size();
  }

  /** Device pages. */
  public int pages() {
    return pages;
  }

  /** Pages that are reserved. */
  public int reservedPages() {
    return reserved;
  }

  /** Number of adapters whose layers are all in device memory. */
  public int completeAdapters() {
    return complete;
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
    int sum = 0;
    for (Entry entry : entries.values()) {
      sum += entry.state == State.QUEUED ? 0 : entry.generation.pages();
      check((entry.state == State.QUEUED) == queue.contains(entry), entry, "is queued or not");
      check((entry.state == State.QUEUED) == (entry.adapter == null), entry, "has memory or not");
      check(
          entry.state == State.RESIDENT
              || entry.state == State.LEAVING
              || entry.wanted()
              || entry.prefetched,
          entry,
          "is wanted by nobody");
    }
    long resident = entries.values().stream().filter(e -> e.state == State.RESIDENT).count();
    if (resident != complete) {
      throw new IllegalStateException(
          "%d adapters are resident, %d counted".formatted(resident, complete));
    }
    if (sum != reserved || reserved > pages) {
      throw new IllegalStateException(
          "%d pages reserved, %d counted, %d in all".formatted(reserved, sum, pages));
    }
  }

  private static void check(boolean condition, Entry entry, String problem) {
    if (!condition) {
      throw new IllegalStateException(
          entry.generation + " in state " + entry.state + " " + problem);
    }
  }

  private void checkSize(AdapterGeneration generation) {
    if (generation.pages() > pages) {
      throw new InfiniLoraException(
          ErrorCode.OVERLOADED,
          "adapter %s needs %d pages of adapter memory, there are %d"
              .formatted(generation.id().name(), generation.pages(), pages));
    }
  }

  private Entry entry(AdapterGeneration generation) {
    return entries.computeIfAbsent(
        generation.id(),
        id -> {
          Entry entry =
              new Entry(
                  generation,
                  usages.computeIfAbsent(id, i -> new AdapterUsage(generation.pages())));
          queue.add(entry);
          return entry;
        });
  }

  private int inUse() {
    return entries.values().stream()
        .filter(e -> e.state != State.QUEUED && e.wanted())
        .mapToInt(e -> e.generation.pages())
        .sum();
  }

  private void tell(Claim claim) {
    if (!claim.told && !claim.over) {
      claim.told = true;
      claim.listener.admissible(claim.entry.adapter);
    }
  }

  private void fail(Claim claim, InfiniLoraException cause) {
    release(claim);
    if (!claim.told) {
      claim.told = true;
      claim.listener.failed(cause);
    }
  }

  /** Gives up what nobody wants any more, unless it is complete. */
  private void unwanted(Entry entry) {
    if (entry.wanted() || entry.prefetched) {
      return;
    }
    if (entry.state == State.QUEUED) {
      queue.remove(entry);
      entries.remove(entry.generation.id());
    } else if (entry.state == State.LOADING && entry.adapter.complete()) {
      // The reports of its last layers are on their way; they will not be heeded any more.
      entry.layersReady = entry.adapter.layers();
      move(entry, State.RESIDENT);
    } else if (entry.state == State.LOADING) {
      cancelled++;
      leave(entry);
    }
  }

  private void move(Entry entry, State state) {
    complete += (state == State.RESIDENT ? 1 : 0) - (entry.state == State.RESIDENT ? 1 : 0);
    entry.state = state;
  }

  private void leave(Entry entry) {
    move(entry, State.LEAVING);
    loads.free(entry.adapter);
  }

  /** Starts loads, first come first served, as far as memory allows; makes room for the first. */
  private void serve() {
    while (!queue.isEmpty()) {
      Entry next = urgentFirst();
      int needed = next.generation.pages();
      if (reserved + needed > pages) {
        makeRoom(next, reserved + needed - pages);
        return;
      }
      queue.remove(next);
      reserved += needed;
      move(next, State.LOADING);
      started++;
      next.adapter = loads.start(next.generation, next.wanted());
    }
  }

  /** The first of those that somebody wants; prefetches come after them. */
  private Entry urgentFirst() {
    for (Entry entry : queue) {
      if (entry.wanted()) {
        return entry;
      }
    }
    return queue.peek();
  }

  /** Sends idle adapters away until {@code shortage} pages are on their way to be free. */
  private void makeRoom(Entry reason, int shortage) {
    int missing = shortage;
    List<Entry> victims = new ArrayList<>();
    for (Entry entry : entries.values()) {
      if (entry.state == State.LEAVING) {
        missing -= entry.generation.pages();
      } else if (entry.evictable()) {
        victims.add(entry);
      }
    }
    victims.sort(Comparator.comparingDouble(e -> policy.value(e.usage)));
    int reachable = victims.stream().mapToInt(e -> e.generation.pages()).sum();
    if (missing > reachable || (missing > 0 && !reason.wanted())) {
      dropPrefetch(reason);
      return; // Nothing leaves in vain, and nothing leaves for a hint.
    }
    for (Iterator<Entry> i = victims.iterator(); missing > 0 && i.hasNext(); ) {
      Entry victim = i.next();
      missing -= victim.generation.pages();
      evictions++;
      policy.evicted(victim.usage);
      victim.prefetched = false;
      leave(victim);
    }
  }

  private void dropPrefetch(Entry entry) {
    if (!entry.wanted()) {
      entry.prefetched = false;
      unwanted(entry);
    }
  }
}
