package io.infinilora.backend;

/**
 * What happens to q, k and v of a layer between their projection and attention.
 *
 * @param rope rotates q and k, last
 * @param bound of the elements of q, k and v, first; 0 for none
 * @param qNorm weights of the norm of q's heads; null for no norms
 * @param kNorm likewise
 * @param eps of the norms
 */
public record AttentionPreparation(RopeTable rope, float bound, Vec qNorm, Vec kNorm, float eps) {

  /** Rotation alone. */
  public static AttentionPreparation of(RopeTable rope) {
    return new AttentionPreparation(rope, 0, null, null, 0);
  }
}
