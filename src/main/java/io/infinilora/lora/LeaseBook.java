package io.infinilora.lora;

import io.infinilora.adapter.AdapterCache;
import io.infinilora.adapter.AdapterTiers;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Who holds which adapter: a base model, in one of its sessions. One that has not been heard of for
 * some time is taken for dead, and what it holds is given back. Event loop only.
 */
final class LeaseBook {
  private static final class Holder {
    final Map<Long, AdapterCache.Claim> leases = new HashMap<>();
    long heardNanos;
  }

  private final AdapterTiers tiers;
  private final long patienceNanos;
  private final Map<String, Holder> holders = new HashMap<>();
  private long lastLease;

  /**
   * An empty book.
   *
   * @param patienceNanos silence after which a base is taken for dead
   */
  LeaseBook(AdapterTiers tiers, long patienceNanos) {
    this.tiers = tiers;
    this.patienceNanos = patienceNanos;
  }

  /** A number for a new lease. */
  long next() {
    return ++lastLease;
  }

  /** Writes a claim down, admissible or not yet. */
  void open(String session, long lease, AdapterCache.Claim claim, long now) {
    Holder holder = holders.computeIfAbsent(session, s -> new Holder());
    holder.leases.put(lease, claim);
    holder.heardNanos = now;
  }

  /** A base lives. */
  void renew(String session, long now) {
    Holder holder = holders.get(session);
    if (holder != null) {
      holder.heardNanos = now;
    }
  }

  /** Ends a lease; one that has ended already is passed over. */
  void close(String session, long lease) {
    Holder holder = holders.get(session);
    AdapterCache.Claim claim = holder == null ? null : holder.leases.remove(lease);
    if (claim != null) {
      tiers.release(claim);
    }
    if (holder != null && holder.leases.isEmpty()) {
      holders.remove(session);
    }
  }

  /** Ends the leases of silent bases; returns how many. */
  int expire(long now) {
    int ended = 0;
    for (Map.Entry<String, Holder> entry : Map.copyOf(holders).entrySet()) {
      if (now - entry.getValue().heardNanos > patienceNanos) {
        ended += closeAll(entry.getKey());
      }
    }
    return ended;
  }

  /** Ends all leases of a session; returns how many. */
  int closeAll(String session) {
    Holder holder = holders.get(session);
    if (holder == null) {
      return 0;
    }
    List<Long> leases = List.copyOf(holder.leases.keySet());
    leases.forEach(lease -> close(session, lease));
    return leases.size();
  }

  /** Number of open leases. */
  int size() {
    return holders.values().stream().mapToInt(h -> h.leases.size()).sum();
  }
}
