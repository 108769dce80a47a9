package io.infinilora.adapter;

import io.infinilora.core.DeltaNorm;
import java.util.List;

/**
 * What reading an adapter's file has shown; nobody uses it yet.
 *
 * @param generation what is kept of it
 * @param norms what it changes of what is held here, by layer, then target
 */
public record ReadAdapter(AdapterGeneration generation, List<DeltaNorm> norms) {}
