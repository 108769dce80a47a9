package io.infinilora.weights;

/**
 * The row order of q and k in GGUF files of the llama family. Hugging Face checkpoints turn element
 * {@code j} of a head with element {@code j + dim/2}; llama.cpp turns neighbours, so its converter
 * views the rows as {@code [heads, 2, dim/2]} and swaps the last two axes: row {@code j} of half
 * {@code p} lands at {@code 2j + p} of its head.
 */
final class RowPermutation {

  private RowPermutation() {}

  /**
   * For each row in Hugging Face order the row of the file that holds it.
   *
   * @param heads query heads for q, key heads for k
   * @param headDim rows of a head
   */
  static int[] halvesFromPairs(int heads, int headDim) {
    int half = headDim / 2;
    int[] order = new int[heads * headDim];
    for (int row = 0; row < order.length; row++) {
      int head = row / headDim;
      int within = row % headDim;
      order[row] = head * headDim + 2 * (within % half) + within / half;
    }
    return order;
  }
}
