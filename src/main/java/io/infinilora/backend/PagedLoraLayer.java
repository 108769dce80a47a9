package io.infinilora.backend;

import io.infinilora.core.LoraSite;
import java.util.EnumMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * A layer whose weights are in numbered pages of a memory. Thread-safe once its weights are set.
 */
public abstract class PagedLoraLayer implements LoraLayer {
  private final int[] numbers;
  private final Map<LoraSite, LoraWeights> dense = new EnumMap<>(LoraSite.class);
  private final Map<LoraSite, ExpertLoraWeights> routed = new EnumMap<>(LoraSite.class);
  private final AtomicBoolean ended = new AtomicBoolean();

  /**
   * @param numbers of the pages
   */
  protected PagedLoraLayer(int[] numbers) {
    this.numbers = numbers;
  }

  /** Sets the weights of a dense site; before anyone else sees the layer. */
  protected final void set(LoraSite site, LoraWeights weights) {
    dense.put(site, weights);
  }

  /** The same for a site with experts. */
  protected final void set(LoraSite site, ExpertLoraWeights weights) {
    routed.put(site, weights);
  }

  @Override
  public final int pages() {
    return numbers.length;
  }

  @Override
  public final LoraWeights weights(LoraSite site) {
    return dense.get(site);
  }

  @Override
  public final ExpertLoraWeights expertWeights(LoraSite site) {
    return routed.get(site);
  }

  /** Numbers of the pages; not to be written. */
  public final int[] numbers() {
    return numbers;
  }

  /** Ends the use of the weights; false if that was done before. */
  public final boolean end() {
    return ended.compareAndSet(false, true);
  }

  /** Whether {@link #end} was called. */
  public final boolean ended() {
    return ended.get();
  }
}
