package io.infinilora.wire;

/** Event-bus addresses of the LoRA Server. */
public final class LoraAddresses {
  /** Takes {@link LoraLayerRequest}s, one-way. */
  public static final String REQUESTS = "infinilora.lora.requests";

  /** Takes {@link AttachBase}, answers {@link AdapterListing}. */
  public static final String ATTACH = "infinilora.lora.attach";

  private LoraAddresses() {}
}
