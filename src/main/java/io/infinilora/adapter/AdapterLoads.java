package io.infinilora.adapter;

/** Carries out what an {@link AdapterCache} decides. Calls return at once. */
public interface AdapterLoads {

  /**
   * Starts to load all layers, in order. Reports {@link AdapterCache#layerReady} for each that has
   * weights, or {@link AdapterCache#loadFailed}.
   *
   * @param urgent whether a request waits for it
   */
  ResidentAdapter start(AdapterGeneration generation, boolean urgent);

  /** A request waits now for an adapter whose load was started without urgency. */
  void hurry(ResidentAdapter adapter);

  /**
   * Stops loading, if it still does, and frees the memory once no stream uses it. Reports {@link
   * AdapterCache#freed}.
   */
  void free(ResidentAdapter adapter);

  /** What bringing a page of it back would cost, relative to a copy from host memory. */
  double reloadCost(AdapterGeneration generation);
}
