package io.infinilora.wire;

import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterRegistration;

/** What somebody asks of the coordinator of a LoRA Server. */
public sealed interface AdapterCall {

  /** See {@link AdapterAdmin#load}. Answered with a {@link io.infinilora.core.LoadedAdapter}. */
  record Load(AdapterRegistration adapter) implements AdapterCall {}

  /** See {@link AdapterAdmin#unload}. Answered with null. */
  record Unload(String name, AdapterAdmin.WhenInUse whenInUse) implements AdapterCall {}

  /** See {@link AdapterAdmin#pin}. Answered with the {@link io.infinilora.core.AdapterStatus}. */
  record Pin(String name, boolean pinned) implements AdapterCall {}

  /** See {@link AdapterAdmin#prefetch}. Answered likewise. */
  record Prefetch(String name) implements AdapterCall {}

  /**
   * Every adapter that requests may name, as it was when it was loaded. Answered at once with an
   * {@link AdapterListing}.
   */
  record Listing() implements AdapterCall {}

  /** The same with their places of this moment, from all shards. */
  record Places() implements AdapterCall {}
}
