package io.infinilora.adapter;

import io.infinilora.core.LayerFactors;

/** An adapter's file while it is being loaded. One thread. */
public interface OpenAdapter extends AutoCloseable {

  /** What the adapter changes in one layer; valid until {@link #close}. */
  LayerFactors layer(int layer);

  @Override
  void close();
}
