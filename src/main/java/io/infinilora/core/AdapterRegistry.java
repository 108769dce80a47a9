package io.infinilora.core;

import io.infinilora.core.AdapterAdmin.WhenInUse;
import io.smallrye.mutiny.Uni;
import java.util.List;

/**
 * What front ends use to change the adapters of a serving node: {@link AdapterAdmin} behind the
 * rules of who may bring what. Any thread; work starts when a {@link Uni} is subscribed to. When a
 * change succeeds, {@link Engine#adapters} shows it.
 */
public interface AdapterRegistry {

  /** A node whose adapters are what they are. */
  AdapterRegistry FIXED =
      new AdapterRegistry() {
        @Override
        public Uni<AdapterProof> load(AdapterLoad load) {
          return fixed();
        }

        @Override
        public Uni<Void> unload(String name, WhenInUse whenInUse) {
          return fixed();
        }

        @Override
        public Uni<AdapterStatus> pin(String name, boolean pinned) {
          return fixed();
        }

        @Override
        public Uni<AdapterStatus> prefetch(String name) {
          return fixed();
        }

        @Override
        public Uni<List<AdapterStatus>> list() {
          return Uni.createFrom().item(List.of());
        }

        private static <T> Uni<T> fixed() {
          return Uni.createFrom()
              .failure(
                  () ->
                      new InfiniLoraException(
                          ErrorCode.INVALID_REQUEST, "the adapters of this server are fixed"));
        }
      };

  /**
   * Loads an adapter, or tries to.
   *
   * @return fails with INVALID_REQUEST if the name is taken or the source not allowed, with
   *     BAD_ADAPTER naming file and key, or with CONFLICT while the name is being changed
   */
  Uni<AdapterProof> load(AdapterLoad load);

  /** See {@link AdapterAdmin#unload}. */
  Uni<Void> unload(String name, WhenInUse whenInUse);

  /** See {@link AdapterAdmin#pin}. */
  Uni<AdapterStatus> pin(String name, boolean pinned);

  /** See {@link AdapterAdmin#prefetch}. */
  Uni<AdapterStatus> prefetch(String name);

  /** All adapters in order of registration, with their places of this moment. */
  Uni<List<AdapterStatus>> list();
}
