package io.infinilora.adapter;

import io.infinilora.backend.LoraImage;
import io.infinilora.core.AdapterId;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.IntStream;

/**
 * Adapters packed in host memory, within a budget of bytes; the one loaded longest ago leaves
 * first. The loader thread only, except where noted.
 */
final class HostTier implements AutoCloseable {
  private final long budget;

  /** Images by layer, null for layers that are not there; in order of last load. */
  private final Map<AdapterId, LoraImage[]> images = new LinkedHashMap<>(16, 0.75f, true);

  private final Set<AdapterId> complete = ConcurrentHashMap.newKeySet();
  private volatile long bytes;

  /**
   * An empty tier.
   *
   * @param budget bytes; 0 keeps nothing
   */
  HostTier(long budget) {
    this.budget = budget;
  }

  /** Bytes held; any thread. */
  long bytes() {
    return bytes;
  }

  /** Bytes that it may hold. */
  long budget() {
    return budget;
  }

  /** Number of adapters with all their layers here; any thread. */
  int adapters() {
    return complete.size();
  }

  /** Whether all layers of an adapter are here; any thread. */
  boolean complete(AdapterId id) {
    return complete.contains(id);
  }

  /** The image of a layer, or null. */
  LoraImage get(AdapterId id, int layer) {
    LoraImage[] layers = images.get(id);
    return layers == null ? null : layers[layer];
  }

  /**
   * Offers an image that was just used.
   *
   * @return false if it was not kept, so that the caller must close it
   */
  boolean offer(AdapterGeneration generation, int layer, LoraImage image) {
    AdapterId id = generation.id();
    int[] pages = generation.layerPages();
    if (image.bytes() > budget) {
      drop(id);
      return false;
    }
    LoraImage[] layers = images.computeIfAbsent(id, k -> new LoraImage[pages.length]);
    layers[layer] = image;
    bytes += image.bytes();
    if (IntStream.range(0, pages.length).allMatch(l -> pages[l] == 0 || layers[l] != null)) {
      complete.add(id);
    }
    Iterator<Map.Entry<AdapterId, LoraImage[]>> eldest = images.entrySet().iterator();
    while (bytes > budget) {
      Map.Entry<AdapterId, LoraImage[]> victim = eldest.next();
      if (victim.getKey().equals(id)) {
        // It does not fit by itself: what is there of it goes, the image in use stays the caller's.
        victim.getValue()[layer] = null;
        bytes -= image.bytes();
        eldest.remove();
        release(id, victim.getValue());
        return false;
      }
      eldest.remove();
      release(victim.getKey(), victim.getValue());
    }
    return true;
  }

  /** Drops an adapter. */
  void drop(AdapterId id) {
    LoraImage[] layers = images.remove(id);
    if (layers != null) {
      release(id, layers);
    }
  }

  private void release(AdapterId id, LoraImage[] layers) {
    complete.remove(id);
    for (LoraImage image : layers) {
      if (image != null) {
        bytes -= image.bytes();
        image.close();
      }
    }
  }

  @Override
  public void close() {
    images.forEach(this::release);
    images.clear();
  }
}
