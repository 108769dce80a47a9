package io.infinilora.wire.frames;

import io.infinilora.core.LoraSite;
import io.netty.buffer.ByteBuf;
import java.util.EnumMap;
import java.util.Map;

/**
 * Payloads on their way from an event loop to a driver thread: one per site, as in a shared
 * exchange. Whatever becomes of them, each is released once. Any thread.
 */
public final class PayloadSlots {
  private final Map<LoraSite, ByteBuf> waiting = new EnumMap<>(LoraSite.class);
  private boolean closed;

  /**
   * Puts a payload where a driver finds it, or releases it if nobody will look any more.
   *
   * @throws FrameException if the one before was not taken: the sender did not wait for its turn
   */
  public synchronized void put(LoraSite site, ByteBuf payload) {
    if (closed) {
      payload.release();
    } else if (waiting.putIfAbsent(site, payload) != null) {
      payload.release();
      throw new FrameException("two payloads for " + site + " at once");
    }
  }

  /** Takes a payload out, which is the caller's then; null if there is none. */
  public synchronized ByteBuf take(LoraSite site) {
    return waiting.remove(site);
  }

  /** Releases what nobody has taken, and whatever comes yet. */
  public synchronized void close() {
    closed = true;
    waiting.values().forEach(ByteBuf::release);
    waiting.clear();
  }
}
