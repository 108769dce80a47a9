package io.infinilora.adapter;

import io.infinilora.core.InfiniLoraException;

/** Hears what becomes of a claim, on the owner's thread: one of the first two comes first. */
public interface ClaimListener {

  /** The first layer is ready: steps may use the adapter until the claim is released. */
  void admissible(ResidentAdapter adapter);

  /**
   * The claim is void. After {@link #admissible} it means that a later layer could not be loaded:
   * steps that need it fail.
   */
  void failed(InfiniLoraException cause);

  /**
   * Others wait for the memory: the claim should be released as soon as what is computed with it
   * has ended. Comes after {@link #admissible}, at most once.
   */
  void revoked();
}
