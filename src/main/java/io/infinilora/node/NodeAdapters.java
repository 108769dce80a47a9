package io.infinilora.node;

import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterAdmin.WhenInUse;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoad;
import io.infinilora.core.AdapterProof;
import io.infinilora.core.AdapterRegistry;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.DeltaNorm;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.engine.BaseModelVerticle;
import io.infinilora.weights.DeltaNorms;
import io.infinilora.weights.PeftAdapter;
import io.smallrye.mutiny.Uni;
import io.vertx.core.Vertx;
import io.vertx.core.WorkerExecutor;
import java.nio.file.Path;
import java.util.List;
import java.util.OptionalDouble;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** The adapters of a node: what may be loaded under which name, and what that would change. */
final class NodeAdapters implements AdapterRegistry {
  private final Vertx vertx;
  private final BaseModelVerticle base;
  private final AdapterAdmin admin;
  private final AdapterSources sources;
  private final LogitProbe probe;

  /** Names that are being loaded. */
  private final Set<String> loading = ConcurrentHashMap.newKeySet();

  /** Names whose next generations are to be pinned, too. */
  private final Set<String> pinned = ConcurrentHashMap.newKeySet();

  /** The adapters of a base model that is deployed. */
  NodeAdapters(Vertx vertx, BaseModelVerticle base, AdapterSources sources) {
    this.vertx = vertx;
    this.base = base;
    this.admin = base.adapterAdmin();
    this.sources = sources;
    this.probe = new LogitProbe(base);
  }

  /** An adapter's directory and what it would change. */
  private record Candidate(Path directory, List<DeltaNorm> norms) {}

  @Override
  public Uni<AdapterProof> load(AdapterLoad load) {
    return alone(
        load.dryRun() ? AdapterLoad.DRY_RUN_NAME : load.name(),
        () -> {
          checkName(load.name());
          if (!load.inPlace() && exists(load.name())) {
            throw new InfiniLoraException(
                ErrorCode.INVALID_REQUEST,
                "an adapter named %s exists already; load_inplace replaces it"
                    .formatted(load.name()));
          }
          return blocking(() -> examine(sources.resolve(load.source()), load.allowNoEffect()))
              .chain(found -> load.dryRun() ? tryOut(load, found) : load(load, found));
        });
  }

  /**
   * Loads an adapter of the node's own: at start, or because its directory has changed.
   *
   * @return fails with BAD_ADAPTER, also if it would change nothing
   */
  Uni<AdapterStatus> add(String name, Path directory) {
    return alone(
        name,
        () ->
            blocking(() -> examine(directory, false))
                .chain(found -> publish(name, found.directory(), false)));
  }

  private Uni<AdapterProof> load(AdapterLoad load, Candidate found) {
    return publish(load.name(), found.directory(), load.pinned())
        .map(status -> new AdapterProof(status, found.norms(), OptionalDouble.empty()));
  }

  private Uni<AdapterStatus> publish(String name, Path directory, boolean pin) {
    return admin
        .load(name, directory)
        .chain(
            () ->
                pin || pinned.contains(name)
                    ? pin(name, true).onFailure().transform(e -> unpinned(name, e))
                    : admin.prefetch(name));
  }

  private static Throwable unpinned(String name, Throwable cause) {
    return cause instanceof InfiniLoraException e
        ? new InfiniLoraException(
            e.code(), "adapter %s is loaded, but not pinned: %s".formatted(name, e.getMessage()), e)
        : cause;
  }

  /** Lets the engine compute with an adapter that nobody else can name. */
  private Uni<AdapterProof> tryOut(AdapterLoad load, Candidate found) {
    String name = AdapterLoad.DRY_RUN_NAME;
    return admin
        .load(name, found.directory())
        .chain(
            status ->
                probe
                    .change(name)
                    .map(change -> new AdapterProof(status, found.norms(), change))
                    .onItemOrFailure()
                    .call(() -> admin.unload(name, WhenInUse.WAIT)))
        .map(proof -> named(load.name(), proof));
  }

  private static AdapterProof named(String name, AdapterProof proof) {
    AdapterStatus s = proof.status();
    AdapterStatus renamed =
        new AdapterStatus(
            new AdapterId(name, s.id().digest()),
            s.source(),
            s.targets(),
            s.maxRank(),
            s.fileBytes(),
            s.deviceBytes(),
            s.tier(),
            s.pinned(),
            s.claims());
    return new AdapterProof(renamed, proof.norms(), proof.logitChange());
  }

  private Candidate examine(Path directory, boolean allowNoEffect) {
    try (PeftAdapter adapter = PeftAdapter.open(directory, base.model())) {
      List<DeltaNorm> norms = DeltaNorms.of(adapter);
      if (!allowNoEffect && norms.stream().allMatch(n -> n.norm() == 0)) {
        throw new InfiniLoraException(
            ErrorCode.BAD_ADAPTER,
            "%s: changes nothing, since A or B of every pair is zero (allow_no_effect loads it)"
                .formatted(directory));
      }
      return new Candidate(directory, norms);
    }
  }

  @Override
  public Uni<Void> unload(String name, WhenInUse whenInUse) {
    return Uni.createFrom()
        .deferred(
            () -> {
              if (loading.contains(name)) {
                throw beingLoaded(name);
              }
              return admin.unload(name, whenInUse).invoke(() -> pinned.remove(name));
            });
  }

  @Override
  public Uni<AdapterStatus> pin(String name, boolean pin) {
    return admin
        .pin(name, pin)
        .invoke(
            () -> {
              if (pin) {
                pinned.add(name);
              } else {
                pinned.remove(name);
              }
            });
  }

  @Override
  public Uni<AdapterStatus> prefetch(String name) {
    return admin.prefetch(name);
  }

  @Override
  public Uni<List<AdapterStatus>> list() {
    return admin
        .list()
        .map(
            all ->
                all.stream().filter(s -> !s.id().name().equals(AdapterLoad.DRY_RUN_NAME)).toList());
  }

  private boolean exists(String name) {
    return base.adapters().stream().anyMatch(a -> a.name().equals(name));
  }

  private static void checkName(String name) {
    if (name.isEmpty() || !name.chars().allMatch(c -> c > ' ' && c != ',' && c != '=')) {
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST,
          "lora_name \"%s\" is no name for an adapter; it must not be empty nor hold spaces, commas or \"=\""
              .formatted(name));
    }
  }

  /** Loads of one name do not overlap: the second one is refused. */
  private <T> Uni<T> alone(String name, Supplier<Uni<? extends T>> work) {
    return Uni.createFrom()
        .deferred(
            () -> {
              if (!loading.add(name)) {
                throw beingLoaded(name);
              }
              return Uni.createFrom()
                  .deferred(work)
                  .onTermination()
                  .invoke(() -> loading.remove(name));
            });
  }

  private static InfiniLoraException beingLoaded(String name) {
    return new InfiniLoraException(
        ErrorCode.CONFLICT, "adapter %s is being loaded at this moment".formatted(name));
  }

  /** On a worker of its own, since a download may take longer than workers otherwise may. */
  private <T> Uni<T> blocking(Callable<T> work) {
    return Uni.createFrom()
        .completionStage(
            () -> {
              WorkerExecutor worker =
                  vertx.createSharedWorkerExecutor("adapter-sources", 2, 1, TimeUnit.DAYS);
              return worker
                  .executeBlocking(work, false)
                  .eventually(worker::close)
                  .toCompletionStage();
            });
  }
}
