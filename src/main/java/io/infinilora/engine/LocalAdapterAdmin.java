package io.infinilora.engine;

import io.infinilora.adapter.AdapterGeneration;
import io.infinilora.adapter.AdapterTiers;
import io.infinilora.adapter.ReadAdapter;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoadedAdapter;
import io.infinilora.wire.AdapterIndex;
import io.smallrye.mutiny.Uni;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.WorkerExecutor;
import java.util.List;
import java.util.concurrent.Executor;
import java.util.function.Supplier;

/** Changes adapters in tiers of this JVM, whose owner is an event loop. */
final class LocalAdapterAdmin implements AdapterAdmin {
  private final AdapterTiers tiers;
  private final Executor loop;
  private final AdapterIndex index;
  private final WorkerExecutor reader;

  /**
   * An admin of some tiers.
   *
   * @param loop the owner
   * @param index is kept up to date there
   * @param reader reads files, and may wait for downloads
   */
  LocalAdapterAdmin(AdapterTiers tiers, Executor loop, AdapterIndex index, WorkerExecutor reader) {
    this.tiers = tiers;
    this.loop = loop;
    this.index = index;
    this.reader = reader;
  }

  @Override
  public Uni<LoadedAdapter> load(AdapterRegistration adapter) {
    return uni(
        () ->
            reader
                .executeBlocking(() -> tiers.read(adapter), false)
                .compose(read -> onLoop(() -> publish(adapter, read))));
  }

  private Future<LoadedAdapter> publish(AdapterRegistration adapter, ReadAdapter read) {
    LoadedAdapter loaded = tiers.loaded(read).requireEffect(adapter.allowNoEffect());
    tiers.publish(read.generation()).ifPresent(tiers::retire);
    index.put(read.generation().id());
    return Future.succeededFuture(loaded);
  }

  @Override
  public Uni<Void> unload(String name, WhenInUse whenInUse) {
    return uni(() -> onLoop(() -> withdraw(name, whenInUse)));
  }

  private Future<Void> withdraw(String name, WhenInUse whenInUse) {
    AdapterGeneration generation = require(name);
    AdapterId id = generation.id();
    if (whenInUse == WhenInUse.REFUSE && tiers.cache().claims(id) > 0) {
      throw new InfiniLoraException(
          ErrorCode.CONFLICT, "adapter %s is in use by running requests".formatted(name));
    }
    tiers.withdraw(name);
    index.remove(name);
    Promise<Void> unused = Promise.promise();
    tiers.whenUnused(generation, unused::complete);
    tiers.retire(generation);
    return unused.future();
  }

  @Override
  public Uni<AdapterStatus> pin(String name, boolean pinned) {
    return uni(
        () ->
            onLoop(
                () -> {
                  tiers.pin(name, pinned);
                  return Future.succeededFuture(tiers.status(require(name)));
                }));
  }

  @Override
  public Uni<AdapterStatus> prefetch(String name) {
    return uni(
        () ->
            onLoop(
                () -> {
                  tiers.prefetch(name);
                  return Future.succeededFuture(tiers.status(require(name)));
                }));
  }

  @Override
  public Uni<List<AdapterStatus>> list() {
    return uni(
        () ->
            onLoop(
                () -> Future.succeededFuture(tiers.list().stream().map(tiers::status).toList())));
  }

  private AdapterGeneration require(String name) {
    return tiers
        .current(name)
        .orElseThrow(
            () ->
                new InfiniLoraException(
                    ErrorCode.MODEL_NOT_FOUND, "there is no adapter named %s".formatted(name)));
  }

  private <T> Future<T> onLoop(Supplier<Future<T>> work) {
    Promise<T> result = Promise.promise();
    loop.execute(
        () -> {
          try {
            work.get().onComplete(result);
          } catch (RuntimeException e) {
            result.fail(e);
          }
        });
    return result.future();
  }

  private static <T> Uni<T> uni(Supplier<Future<T>> work) {
    return Uni.createFrom().completionStage(() -> work.get().toCompletionStage());
  }
}
