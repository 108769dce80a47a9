package io.infinilora.node;

import io.infinilora.core.AdapterStatus;
import io.infinilora.core.InfiniLoraException;
import io.vertx.core.Future;
import java.time.Duration;
import java.util.List;
import java.util.Optional;

/** What runs in a process, whatever its role. Any thread. */
public interface ServingNode {

  /** What requests of clients go to; empty if this process takes none. */
  Optional<NodeApi> api();

  /** Lines that tell whoever starts it what was started. */
  List<String> describe();

  /** Which adapters were loaded at start and which were refused. */
  default AdapterReport adapterReport() {
    return AdapterReport.NONE;
  }

  /** Where all adapters are at this moment, here or elsewhere. */
  Future<List<AdapterStatus>> adapterPlaces();

  /** Computes for a while, so that the first request meets compiled code; zero for not at all. */
  default Future<Void> warmUp(Duration budget) {
    return Future.succeededFuture();
  }

  /** Why it cannot work any more, until the process is started again; empty as long as it can. */
  default Optional<InfiniLoraException> fault() {
    return Optional.empty();
  }

  /** Takes no more work from other processes; completes when what they have sent is done. */
  default Future<Void> drain() {
    return Future.succeededFuture();
  }

  /** Ends everything, and the {@link io.vertx.core.Vertx} it runs on. */
  Future<Void> close();
}
