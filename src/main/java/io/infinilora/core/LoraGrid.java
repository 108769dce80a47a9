package io.infinilora.core;

import java.util.ArrayList;
import java.util.List;

/**
 * How a LoRA Server is divided: EPx-PPy, x ranges of experts in each of y ranges of layers (hybrid
 * parallelism of InfiniLoRA, arXiv 2604.07173).
 *
 * @param expertShards x
 * @param stages y
 */
public record LoraGrid(int expertShards, int stages) {

  /** Undivided. */
  public static final LoraGrid SINGLE = new LoraGrid(1, 1);

  /** Rejects empty grids. */
  public LoraGrid {
    if (expertShards < 1 || stages < 1) {
      throw new IllegalArgumentException("a grid of " + expertShards + " x " + stages);
    }
  }

  /**
   * A grid as it is written, {@code 2x4}.
   *
   * @throws IllegalArgumentException if it is not written so
   */
  public static LoraGrid parse(String text) {
    String[] parts = text.split("x", -1);
    if (parts.length != 2) {
      throw new IllegalArgumentException(text);
    }
    return new LoraGrid(Integer.parseInt(parts[0]), Integer.parseInt(parts[1]));
  }

  /** All shards, stage by stage. */
  public List<LoraShard> shards() {
    List<LoraShard> shards = new ArrayList<>();
    for (int stage = 0; stage < stages; stage++) {
      for (int e = 0; e < expertShards; e++) {
        shards.add(new LoraShard(e, expertShards, stage, stages));
      }
    }
    return shards;
  }

  @Override
  public String toString() {
    return expertShards + "x" + stages;
  }
}
