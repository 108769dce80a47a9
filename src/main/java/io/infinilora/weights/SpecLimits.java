package io.infinilora.weights;

import io.infinilora.core.InfiniLoraException;
import java.util.function.BiFunction;

/**
 * Bounds on the sizes that a configuration states, far above any real model: a lying number must
 * not overflow a product or make anyone allocate for it.
 */
final class SpecLimits {

  private static final int MAX_LAYERS = 4096;
  private static final int MAX_WIDTH = 1 << 22;
  private static final int MAX_VOCAB = 1 << 26;
  private static final int MAX_HEAD_DIM = 1 << 14;
  private static final int MAX_EXPERTS = 1 << 14;

  private final BiFunction<String, String, InfiniLoraException> fault;

  /**
   * Limits for one file.
   *
   * @param fault makes an error from a field and what is wrong with it
   */
  SpecLimits(BiFunction<String, String, InfiniLoraException> fault) {
    this.fault = fault;
  }

  void layers(String field, int value) {
    between(field, value, MAX_LAYERS);
  }

  void width(String field, int value) {
    between(field, value, MAX_WIDTH);
  }

  void vocab(String field, int value) {
    between(field, value, MAX_VOCAB);
  }

  void positive(String field, int value) {
    between(field, value, Integer.MAX_VALUE);
  }

  void kvHeads(String field, int value, int heads) {
    between(field, value, heads);
    if (heads % value != 0) {
      throw fault.apply(field, "is " + value + ", which does not divide the " + heads + " heads");
    }
  }

  void headDim(String field, int value, int heads) {
    between(field, value, MAX_HEAD_DIM);
    if (value % 2 != 0) {
      throw fault.apply(field, "is " + value + ", but rotation needs an even number");
    }
    if ((long) value * heads > MAX_WIDTH) {
      throw fault.apply(field, "is " + value + ", too much for " + heads + " heads");
    }
  }

  void experts(String field, int value) {
    between(field, value, MAX_EXPERTS);
  }

  void topK(String field, int value, int experts) {
    if (value < 1 || value > experts) {
      throw fault.apply(field, "is " + value + ", but there are " + experts + " experts");
    }
  }

  void epsilon(String field, double value) {
    if (!(value > 0 && value < 1)) {
      throw fault.apply(field, "is " + value + ", but must lie between 0 and 1");
    }
  }

  private void between(String field, int value, int most) {
    if (value < 1 || value > most) {
      throw fault.apply(field, "is " + value + ", but must lie between 1 and " + most);
    }
  }
}
