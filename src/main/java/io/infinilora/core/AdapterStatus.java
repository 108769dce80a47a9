package io.infinilora.core;

import java.util.Collections;
import java.util.Set;
import java.util.TreeSet;

/**
 * What a registered adapter is and where it lies at this moment.
 *
 * @param id name and content
 * @param source the directory it came from
 * @param targets linear layers that it changes in at least one decoder layer
 * @param maxRank largest rank
 * @param fileBytes bytes of its weights file
 * @param deviceBytes device memory that it takes when resident
 * @param tier the fastest tier that holds it
 * @param pinned whether it stays in device memory unused
 * @param claims how many hold it
 */
public record AdapterStatus(
    AdapterId id,
    String source,
    Set<LoraTarget> targets,
    int maxRank,
    long fileBytes,
    long deviceBytes,
    Tier tier,
    boolean pinned,
    int claims) {

  /** Where an adapter is. */
  public enum Tier {
    /** In its file only. */
    DISK,
    /** Packed in host memory. */
    HOST,
    /** On its way to device memory; requests may use the layers that are there. */
    LOADING,
    /** In device memory. */
    DEVICE
  }

  /** Copies the set, in the order of {@link LoraTarget}. */
  public AdapterStatus {
    targets = Collections.unmodifiableSet(new TreeSet<>(targets));
  }

  /** Two parts of one adapter as one, which is in the slower tier of both. */
  public AdapterStatus plus(AdapterStatus other) {
    return new AdapterStatus(
        id,
        source,
        targets,
        maxRank,
        fileBytes,
        deviceBytes + other.deviceBytes,
        tier.compareTo(other.tier) < 0 ? tier : other.tier,
        pinned && other.pinned,
        Math.max(claims, other.claims));
  }

  /** The same under another name. */
  public AdapterStatus named(String name) {
    return new AdapterStatus(
        new AdapterId(name, id.digest()),
        source,
        targets,
        maxRank,
        fileBytes,
        deviceBytes,
        tier,
        pinned,
        claims);
  }
}
