package io.infinilora.adapter;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** Finds adapters in device memory by slot. Thread-safe. */
public final class ResidentAdapters {
  private final Map<Integer, ResidentAdapter> bySlot = new ConcurrentHashMap<>();

  /**
   * The adapters in these slots.
   *
   * @throws InfiniLoraException UNAVAILABLE if one of them has left: its lease has ended
   */
  public ResidentAdapter[] require(int[] slots) {
    ResidentAdapter[] adapters = new ResidentAdapter[slots.length];
    for (int i = 0; i < slots.length; i++) {
      adapters[i] = bySlot.get(slots[i]);
      if (adapters[i] == null) {
        throw new InfiniLoraException(
            ErrorCode.UNAVAILABLE,
            "no adapter is in slot %d any more: its lease has ended".formatted(slots[i]));
      }
    }
    return adapters;
  }

  void add(ResidentAdapter adapter) {
    bySlot.put(adapter.slot(), adapter);
  }

  void remove(ResidentAdapter adapter) {
    bySlot.remove(adapter.slot());
  }
}
