package io.infinilora.adapter;

import java.util.ArrayList;
import java.util.List;

/**
 * An adapter that is not absent from an {@link AdapterCache}: where it is, who wants it and since
 * when. {@link CacheTable} moves it from state to state. The cache's thread only.
 */
final class CacheEntry {

  /** Where it is. */
  enum State {
    /** Waits for memory; has none. */
    QUEUED,
    /** Has memory, and its layers are being loaded. */
    LOADING,
    /** All its layers are ready. */
    RESIDENT,
    /** Nobody may begin to use it; its memory is about to be free. */
    LEAVING
  }

  private final AdapterGeneration generation;
  private final AdapterUsage usage;
  private final List<AdapterCache.Claim> claims = new ArrayList<>();
  private State state = State.QUEUED;
  private ResidentAdapter adapter;
  private int layersReady;
  private long queuedAt;
  private long heldSince;
  private boolean draining;
  private boolean pinned;
  private boolean prefetched;

  /** An adapter that waits for memory, and that nobody wants yet. */
  CacheEntry(AdapterGeneration generation, AdapterUsage usage) {
    this.generation = generation;
    this.usage = usage;
  }

  AdapterGeneration generation() {
    return generation;
  }

  AdapterUsage usage() {
    return usage;
  }

  /** Device pages that it takes unless it is queued. */
  int pages() {
    return generation.pages();
  }

  boolean is(State expected) {
    return state == expected;
  }

  /** What is in device memory, or on its way there or from there; null while it is queued. */
  ResidentAdapter adapter() {
    return adapter;
  }

  /** The claims on it, told or not, in the order in which they came; a copy. */
  List<AdapterCache.Claim> claims() {
    return List.copyOf(claims);
  }

  int claimCount() {
    return claims.size();
  }

  void claimed(AdapterCache.Claim claim) {
    if (claims.isEmpty()) {
      heldSince = claim.since();
      queuedAt = claim.since();
    }
    claims.add(claim);
  }

  void released(AdapterCache.Claim claim) {
    claims.remove(claim);
  }

  boolean pinned() {
    return pinned;
  }

  void pinned(boolean now) {
    pinned = now;
  }

  /** Whether it is loaded ahead of requests; false once it is there. */
  boolean prefetched() {
    return prefetched;
  }

  void prefetched(boolean now) {
    prefetched = now;
  }

  /** Whether somebody claims it or keeps it. */
  boolean wanted() {
    return pinned || !claims.isEmpty();
  }

  /** Whether it is there though nobody wants it. */
  boolean idle() {
    return state == State.RESIDENT && !wanted();
  }

  /** Whether a miss may take its memory. */
  boolean evictable() {
    return idle() || (state == State.LOADING && !wanted());
  }

  /** Whether steps may use it now: a claim has been told so. */
  boolean inUse() {
    return claims.stream().anyMatch(AdapterCache.Claim::told);
  }

  /** Whether a new claim is admissible at once. */
  boolean usable() {
    return layersReady > 0 && state != State.LEAVING && !draining;
  }

  /** Whether its holders were asked to let go, after which it leaves. */
  boolean draining() {
    return draining;
  }

  void drain() {
    draining = true;
  }

  /** It does not leave after all. */
  void stay() {
    draining = false;
  }

  /** When the first of those who wait for it came. */
  long queuedAt() {
    return queuedAt;
  }

  /** When the first of those who hold it came. */
  long heldSince() {
    return heldSince;
  }

  /**
   * Takes a report of the loader.
   *
   * @param layers number of layers that are ready, from the first
   * @return whether these are the first ones
   */
  boolean ready(int layers) {
    boolean first = layersReady == 0;
    layersReady = layers;
    return first;
  }

  /** Whether all layers have been reported. */
  boolean allReady() {
    return layersReady == adapter.layers();
  }

  /** For {@link CacheTable}: its memory and its sums follow from the state. */
  void move(State next) {
    state = next;
  }

  /** For {@link CacheTable}: it has got memory. */
  void loading(ResidentAdapter newAdapter) {
    adapter = newAdapter;
  }

  /** For {@link CacheTable}: its memory is free, and whoever claims it waits anew. */
  void freed() {
    adapter = null;
    layersReady = 0;
    draining = false;
    if (!claims.isEmpty()) {
      // Those who hold it now are not those who held it before it left.
      queuedAt = claims.getFirst().since();
      heldSince = queuedAt;
    }
  }

  @Override
  public String toString() {
    return generation + " in state " + state;
  }
}
