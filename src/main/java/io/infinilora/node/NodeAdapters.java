package io.infinilora.node;

import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterAdmin.WhenInUse;
import io.infinilora.core.AdapterLoad;
import io.infinilora.core.AdapterProof;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterRegistry;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.Engine;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoadedAdapter;
import io.smallrye.mutiny.Uni;
import java.util.List;
import java.util.OptionalDouble;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Supplier;

/**
 * The adapters that a front end offers: which may be loaded under which name, and what they change.
 * It sees no files: sources are text for whoever holds adapters. Any thread.
 */
final class NodeAdapters implements AdapterRegistry {
  /** At most one trial at a time. */
  private static final String TRIAL = "(dry run)";

  private final Engine engine;
  private final AdapterAdmin admin;
  private final LogprobProbe probe;

  /** Names that are being loaded. */
  private final Set<String> loading = ConcurrentHashMap.newKeySet();

  /** Names whose next generations are to be pinned, too. */
  private final Set<String> pinned = ConcurrentHashMap.newKeySet();

  /**
   * The adapters of an engine.
   *
   * @param engine computes with adapters that are tried
   * @param admin changes what it has
   */
  NodeAdapters(Engine engine, AdapterAdmin admin) {
    this.engine = engine;
    this.admin = admin;
    this.probe = new LogprobProbe(engine);
  }

  @Override
  public Uni<AdapterProof> load(AdapterLoad load) {
    return alone(
        load.dryRun() ? TRIAL : load.name(),
        () -> {
          checkName(load.name());
          if (!load.inPlace() && engine.adapter(load.name()).isPresent()) {
            throw new InfiniLoraException(
                ErrorCode.INVALID_REQUEST,
                "an adapter named %s exists already; load_inplace replaces it"
                    .formatted(load.name()));
          }
          return load.dryRun()
              ? tryOut(load)
              : publish(registration(load, load.name()), load.pinned());
        });
  }

  private static AdapterRegistration registration(AdapterLoad load, String name) {
    return new AdapterRegistration(name, load.source(), false, load.allowNoEffect());
  }

  /**
   * Loads an adapter of the node's own: at start, or because its directory has changed.
   *
   * @param source directory or {@code hf:} reference
   * @return fails with BAD_ADAPTER, also if it would change nothing
   */
  Uni<AdapterStatus> add(String name, String source) {
    return alone(
        name,
        () -> publish(AdapterRegistration.own(name, source), false).map(AdapterProof::status));
  }

  private Uni<AdapterProof> publish(AdapterRegistration adapter, boolean pin) {
    String name = adapter.name();
    return admin
        .load(adapter)
        .chain(
            loaded ->
                (pin || pinned.contains(name)
                        ? pin(name, true).onFailure().transform(e -> unpinned(name, e))
                        : admin.prefetch(name))
                    .map(
                        status ->
                            new AdapterProof(status, loaded.norms(), OptionalDouble.empty())));
  }

  private static Throwable unpinned(String name, Throwable cause) {
    return cause instanceof InfiniLoraException e
        ? new InfiniLoraException(
            e.code(), "adapter %s is loaded, but not pinned: %s".formatted(name, e.getMessage()), e)
        : cause;
  }

  /** Lets the engine compute with an adapter that nobody else can name. */
  private Uni<AdapterProof> tryOut(AdapterLoad load) {
    String name = AdapterLoad.dryRunName();
    return admin
        .load(registration(load, name))
        .chain(
            loaded ->
                probe
                    .change(name)
                    .onFailure(NodeAdapters::nobodyComputes)
                    .recoverWithItem(OptionalDouble.empty())
                    .map(change -> proof(load.name(), loaded, change))
                    .onItemOrFailure()
                    .call(() -> admin.unload(name, WhenInUse.WAIT)));
  }

  private static boolean nobodyComputes(Throwable failure) {
    return failure instanceof InfiniLoraException e && e.code() == ErrorCode.UNAVAILABLE;
  }

  private static AdapterProof proof(String name, LoadedAdapter loaded, OptionalDouble change) {
    return new AdapterProof(loaded.status().named(name), loaded.norms(), change);
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
        .map(all -> all.stream().filter(s -> !AdapterLoad.isDryRun(s.id().name())).toList());
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
}
