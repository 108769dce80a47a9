package io.infinilora.adapter;

/**
 * How an adapter has been used so far; kept while it is registered, whether it is resident or not.
 * Changed by the cache only.
 */
public final class AdapterUsage {
  /** Claims after which an old claim counts half. */
  private static final double HALF_LIFE = 1024;

  private final int pages;
  private long lastUse;
  private double popularity;
  private double reloadCost = 1;
  private double priority;

  AdapterUsage(int pages) {
    this.pages = pages;
  }

  /** Device pages that it takes. */
  public int pages() {
    return pages;
  }

  /** Number of the last claim among all claims of the cache; 0 before the first. */
  public long lastUse() {
    return lastUse;
  }

  /** Claims so far, older ones counting less. */
  public double popularity() {
    return popularity;
  }

  /** What bringing a page back would cost, relative to a copy from host memory. */
  public double reloadCost() {
    return reloadCost;
  }

  /** A figure that belongs to the eviction policy. */
  public double priority() {
    return priority;
  }

  /** Sets the policy's figure. */
  public void priority(double newPriority) {
    priority = newPriority;
  }

  void used(long claim) {
    popularity = popularity * Math.pow(0.5, (claim - lastUse) / HALF_LIFE) + 1;
    lastUse = claim;
  }

  void reloadCost(double newCost) {
    reloadCost = newCost;
  }
}
