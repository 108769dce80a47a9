package io.infinilora.adapter;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraLayer;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.Signal;
import io.infinilora.core.AdapterLoadException;
import io.infinilora.core.LoraSite;
import java.util.concurrent.atomic.AtomicReferenceArray;

/**
 * An adapter in device memory, or on its way there: layers become ready one by one, in order. The
 * loader thread adds them; a driver thread waits for {@link #ready} and uses them.
 */
public final class ResidentAdapter {
  private final AdapterGeneration generation;
  private final int slot;
  private final Signal ready;
  private final long readyBefore;
  private final AtomicReferenceArray<LoraLayer> layers;
  private volatile AdapterLoadException failure;

  /**
   * An adapter without layers yet.
   *
   * @param slot number by which steps refer to it; never used again for another one
   * @param ready a signal that nobody else uses; it is raised by one with each layer
   */
  ResidentAdapter(AdapterGeneration generation, int slot, Signal ready) {
    this.generation = generation;
    this.slot = slot;
    this.ready = ready;
    this.readyBefore = ready.value();
    this.layers = new AtomicReferenceArray<>(generation.layerPages().length);
  }

  /** What it is. */
  public AdapterGeneration generation() {
    return generation;
  }

  /** Number by which steps refer to it. */
  public int slot() {
    return slot;
  }

  /** Counts layers that are ready; all at once if the load fails. */
  public Signal ready() {
    return ready;
  }

  /** Value of {@link #ready} from which on a layer may be used. */
  public long readyValue(int layer) {
    return readyBefore + layer + 1;
  }

  /** Whether all layers are ready; any thread. */
  public boolean complete() {
    // In this order: a load that fails says so before it raises the signal.
    return ready.value() >= readyValue(layers() - 1) && failure == null;
  }

  /** Number of layers of the model. */
  int layers() {
    return layers.length();
  }

  /** Loader thread: adds the next layer; null for a layer that the adapter leaves alone. */
  void add(int index, LoraLayer layer) {
    layers.set(index, layer);
    ready.release(readyValue(index));
  }

  /** Loader thread: no layer will be added any more; whoever waits for one is to see why. */
  void fail(AdapterLoadException cause) {
    failure = cause;
    ready.release(readyValue(layers() - 1));
  }

  /**
   * To be asked after a wait for a layer.
   *
   * @throws AdapterLoadException if the load has failed
   */
  void requireLoads() {
    AdapterLoadException cause = failure;
    if (cause != null) {
      throw new AdapterLoadException(cause.adapter(), cause.code(), cause.getMessage(), cause);
    }
  }

  /** The layer, or null if it is not there or was left alone. */
  LoraLayer layer(int index) {
    return layers.get(index);
  }

  /** Weights of a ready layer's dense site, or null if the adapter leaves it alone. */
  LoraWeights weights(int layer, LoraSite site) {
    LoraLayer l = layers.get(layer);
    return l == null ? null : l.weights(site);
  }

  /** Weights of a ready layer's site with experts, likewise. */
  ExpertLoraWeights expertWeights(int layer, LoraSite site) {
    LoraLayer l = layers.get(layer);
    return l == null ? null : l.expertWeights(site);
  }

  @Override
  public String toString() {
    return generation + " in slot " + slot;
  }
}
