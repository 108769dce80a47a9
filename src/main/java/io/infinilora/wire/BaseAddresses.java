package io.infinilora.wire;

import java.util.UUID;

/** Event-bus addresses between gateways and base-model instances. */
public final class BaseAddresses {
  /** Published to by every base: {@link BaseNotice}. */
  public static final String NOTICES = "infinilora.bases";

  private BaseAddresses() {}

  /** Takes {@link BaseCall}s, one-way. What is sent to an earlier incarnation reaches nobody. */
  public static String calls(String base, UUID incarnation) {
    return "infinilora.base." + base + "." + incarnation + ".calls";
  }

  /** Takes {@link StreamMessage}s for a gateway, one-way. */
  public static String streams(UUID gateway) {
    return "infinilora.gateway." + gateway + ".streams";
  }
}
