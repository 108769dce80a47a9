package io.infinilora.adapter;

/**
 * How long a layer takes at the moment: an average over the layers of recent steps. Written by the
 * driver thread, read by the loader.
 */
public final class LayerClock {
  /** A guess for the time before the first step. */
  private static final long FIRST_GUESS_NANOS = 1_000_000;

  private volatile long nanos = FIRST_GUESS_NANOS;
  private long lastStep = -1;
  private int lastLayer;
  private long lastTime;

  /** A layer of a step begins. */
  public void layer(long step, int layer) {
    long now = System.nanoTime();
    if (step == lastStep && layer == lastLayer + 1) {
      nanos = nanos + (now - lastTime - nanos) / 16;
    }
    lastStep = step;
    lastLayer = layer;
    lastTime = now;
  }

  /** Nanoseconds per layer. */
  public long nanos() {
    return nanos;
  }
}
