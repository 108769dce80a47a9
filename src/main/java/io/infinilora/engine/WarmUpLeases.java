package io.infinilora.engine;

import io.infinilora.core.AdapterId;
import io.infinilora.core.InfiniLoraException;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/**
 * The adapters of a warm-up: a few; those that cannot be had in time are done without. Event loop
 * only.
 */
final class WarmUpLeases {
  private static final int ADAPTERS = 4;

  private final List<LoraRuntime.Lease> asked = new ArrayList<>();
  private final List<Future<LoraRuntime.Lease>> leased;

  /** Asks for leases, unless there is no time at all. */
  WarmUpLeases(LoraRuntime lora, Duration budget) {
    long deadline = System.nanoTime() + budget.toNanos();
    List<AdapterId> adapters =
        budget.isZero() ? List.of() : lora.adapters().stream().limit(ADAPTERS).toList();
    leased = adapters.stream().map(id -> lease(lora, id, deadline)).toList();
  }

  private Future<LoraRuntime.Lease> lease(LoraRuntime lora, AdapterId adapter, long deadlineNanos) {
    Promise<Void> granted = Promise.promise();
    LoraRuntime.Lease lease;
    try {
      lease = lora.lease(adapter, deadlineNanos, listener(granted));
    } catch (InfiniLoraException e) {
      return Future.failedFuture(e);
    }
    asked.add(lease);
    return granted.future().map(lease);
  }

  private static LoraRuntime.LeaseListener listener(Promise<Void> granted) {
    return new LoraRuntime.LeaseListener() {
      @Override
      public void granted() {
        granted.complete();
      }

      @Override
      public void failed(InfiniLoraException cause) {
        granted.tryFail(cause); // Also comes when the lease is lost later.
      }

      @Override
      public void revoked() {} // A warm-up ends soon enough.
    };
  }

  private List<LoraRuntime.Lease> granted() {
    return leased.stream().filter(Future::succeeded).map(Future::result).toList();
  }

  /** Slots of those that were granted, when all have been answered; never fails. */
  Future<int[]> slots() {
    return Future.join(leased)
        .transform(
            all ->
                Future.succeededFuture(
                    granted().stream().mapToInt(LoraRuntime.Lease::slot).toArray()));
  }

  /** Ends all, granted or not, when no step uses them any more. */
  void release() {
    asked.forEach(LoraRuntime.Lease::release);
  }
}
