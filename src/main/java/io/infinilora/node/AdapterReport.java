package io.infinilora.node;

import io.infinilora.core.AdapterStatus;
import io.infinilora.core.InfiniLoraException;
import java.util.List;

/**
 * What became of the adapters that a node was started with.
 *
 * @param loaded adapters that can be used
 * @param failures one error per adapter that was refused; the others are not affected
 */
public record AdapterReport(List<AdapterStatus> loaded, List<InfiniLoraException> failures) {
  /** Of a process that registers no adapters. */
  static final AdapterReport NONE = new AdapterReport(List.of(), List.of());

  /** Copies the lists. */
  public AdapterReport {
    loaded = List.copyOf(loaded);
    failures = List.copyOf(failures);
  }
}
