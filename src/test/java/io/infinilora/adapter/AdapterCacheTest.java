package io.infinilora.adapter;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.Signal;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraTarget;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class AdapterCacheTest {
  private static final int LAYERS = 3;
  private static final long NOW = 0;

  private final FakeLoads loads = new FakeLoads();
  private AdapterCache cache = new AdapterCache(30, new LeastRecentlyUsed(), loads);

  /** Adapters whose layers take {@code pagesPerLayer} pages each. */
  private static AdapterGeneration adapter(String name, int pagesPerLayer) {
    return new AdapterGeneration(
        new AdapterId(name, "d-" + name),
        Path.of(name),
        Set.of(LoraTarget.Q),
        8,
        new int[] {pagesPerLayer, pagesPerLayer, pagesPerLayer},
        1,
        FileTime.fromMillis(0));
  }

  /** Does nothing by itself; the test plays the loader. */
  private static final class FakeLoads implements AdapterLoads {
    final List<ResidentAdapter> loading = new ArrayList<>();
    final List<ResidentAdapter> leaving = new ArrayList<>();
    final List<ResidentAdapter> hurried = new ArrayList<>();
    final Map<String, Double> costs = new HashMap<>();
    private int slots;

    @Override
    public ResidentAdapter start(AdapterGeneration generation, boolean urgent) {
      ResidentAdapter adapter = new ResidentAdapter(generation, ++slots, new CountingSignal());
      loading.add(adapter);
      return adapter;
    }

    @Override
    public void hurry(ResidentAdapter adapter) {
      hurried.add(adapter);
    }

    @Override
    public void free(ResidentAdapter adapter) {
      loading.remove(adapter);
      leaving.add(adapter);
    }

    @Override
    public double reloadCost(AdapterGeneration generation) {
      return costs.getOrDefault(generation.id().name(), 1.0);
    }

    List<String> loadingNames() {
      return loading.stream().map(a -> a.generation().id().name()).toList();
    }

    List<String> leavingNames() {
      return leaving.stream().map(a -> a.generation().id().name()).toList();
    }
  }

  /** A signal that nobody waits for. */
  private static final class CountingSignal implements Signal {
    private long value;

    @Override
    public void release(long newValue) {
      value = newValue;
    }

    @Override
    public long value() {
      return value;
    }

    @Override
    public boolean await(long wanted, long deadlineNanos) {
      return value >= wanted;
    }
  }

  /** Remembers what it was told. */
  private static final class Told implements ClaimListener {
    ResidentAdapter adapter;
    InfiniLoraException failure;
    boolean revoked;

    @Override
    public void revoked() {
      assertThat(adapter).isNotNull();
      assertThat(revoked).isFalse();
      revoked = true;
    }

    @Override
    public void admissible(ResidentAdapter resident) {
      assertThat(adapter).isNull();
      adapter = resident;
    }

    @Override
    public void failed(InfiniLoraException cause) {
      assertThat(failure).isNull();
      failure = cause;
    }
  }

  @AfterEach
  void invariantsHold() {
    cache.checkInvariants();
  }

  private void load(String name, int layers) {
    ResidentAdapter adapter =
        loads.loading.stream()
            .filter(a -> a.generation().id().name().equals(name))
            .findFirst()
            .orElseThrow();
    for (int layer = 0; layer < layers; layer++) {
      cache.layerReady(adapter, layer);
    }
    if (layers == LAYERS) {
      loads.loading.remove(adapter);
    }
  }

  private void freeAll() {
    for (ResidentAdapter adapter : List.copyOf(loads.leaving)) {
      loads.leaving.remove(adapter);
      cache.freed(adapter);
    }
  }

  /** Claims, loads and releases, so that the adapter is resident and idle. */
  private void touch(AdapterGeneration generation) {
    AdapterCache.Claim claim = cache.claim(generation, NOW, 0, new Told());
    if (loads.loadingNames().contains(generation.id().name())) {
      load(generation.id().name(), LAYERS);
    }
    cache.release(claim);
  }

  @Test
  void aClaimIsAdmissibleWithTheFirstLayer() {
    Told told = new Told();
    cache.claim(adapter("a", 1), NOW, 0, told);
    assertThat(told.adapter).isNull();
    load("a", 1);
    assertThat(told.adapter.generation().id().name()).isEqualTo("a");
    Told second = new Told();
    cache.claim(adapter("a", 1), NOW, 0, second);
    assertThat(second.adapter).isSameAs(told.adapter);
    assertThat(cache.stats().immediateAdmissibilityRate()).isEqualTo(0.5);
  }

  @Test
  void oneAdapterIsNeverLoadedTwiceAtOnce() {
    cache.claim(adapter("a", 1), NOW, 0, new Told());
    cache.claim(adapter("a", 1), NOW, 0, new Told());
    assertThat(loads.loadingNames()).containsExactly("a");
    assertThat(loads.hurried).hasSize(1);
  }

  @Test
  void theLeastRecentlyUsedIdleAdapterMakesRoom() {
    touch(adapter("a", 4));
    touch(adapter("b", 4));
    touch(adapter("a", 4));
    Told told = new Told();
    cache.claim(adapter("c", 4), NOW, 0, told);
    assertThat(loads.leavingNames()).containsExactly("b");
    assertThat(loads.loading).isEmpty(); // not before the memory is free
    freeAll();
    load("c", 1);
    assertThat(told.adapter).isNotNull();
    assertThat(cache.stats().evictions()).isEqualTo(1);
  }

  @Test
  void adaptersInUseAndPinnedOnesStay() {
    cache.claim(adapter("a", 4), NOW, 0, new Told());
    load("a", LAYERS);
    cache.pin(adapter("b", 4));
    load("b", LAYERS);
    Told told = new Told();
    cache.claim(adapter("c", 4), NOW, 0, told);
    assertThat(loads.leaving).isEmpty();
    assertThat(told.adapter).isNull();
    cache.unpin(adapter("b", 4));
    assertThat(loads.leavingNames()).containsExactly("b");
  }

  @Test
  void missesAreServedInOrderAndHitsWaitForNobody() {
    AdapterCache.Claim a = cache.claim(adapter("a", 6), NOW, 0, new Told());
    load("a", LAYERS);
    cache.claim(adapter("large", 9), NOW, 0, new Told());
    cache.claim(adapter("small", 1), NOW, 0, new Told());
    assertThat(loads.loading).isEmpty(); // the small one would fit, but came later
    Told hit = new Told();
    AdapterCache.Claim again = cache.claim(adapter("a", 6), NOW, 0, hit);
    assertThat(hit.adapter).isNotNull();
    cache.release(a);
    cache.release(again);
    freeAll();
    assertThat(loads.loadingNames()).containsExactly("large", "small");
  }

  @Test
  void aLoadThatNobodyWantsAnyMoreIsGivenUp() {
    AdapterCache.Claim claim = cache.claim(adapter("a", 4), NOW, 0, new Told());
    cache.release(claim);
    assertThat(loads.leavingNames()).containsExactly("a");
    assertThat(cache.stats().cancelled()).isEqualTo(1);
    // Wanted again before its memory is free: it is loaded anew.
    Told told = new Told();
    cache.claim(adapter("a", 4), NOW, 0, told);
    freeAll();
    load("a", 1);
    assertThat(told.adapter).isNotNull();
  }

  @Test
  void aFailedLoadFailsItsClaimsOnly() {
    Told a = new Told();
    Told b = new Told();
    cache.claim(adapter("a", 1), NOW, 0, a);
    cache.claim(adapter("b", 1), NOW, 0, b);
    cache.loadFailed(
        loads.loading.getFirst(), new InfiniLoraException(ErrorCode.BAD_ADAPTER, "torn file"));
    assertThat(a.failure).hasMessageContaining("torn file");
    freeAll();
    load("b", LAYERS);
    assertThat(b.adapter).isNotNull();
    assertThat(cache.reservedPages()).isEqualTo(3);
  }

  @Test
  void aLoadThatFailsAfterItsFirstLayerFailsTheClaimsThatAreAdmissible() {
    Told a = new Told();
    cache.claim(adapter("a", 1), NOW, 0, a);
    load("a", 1);
    assertThat(a.adapter).isNotNull();
    cache.loadFailed(
        loads.loading.getFirst(), new InfiniLoraException(ErrorCode.BAD_ADAPTER, "torn file"));
    assertThat(a.failure).hasMessageContaining("torn file");
    freeAll();
    assertThat(cache.reservedPages()).isZero();
  }

  @Test
  void claimsThatGetNoMemoryInTimeFail() {
    cache.claim(adapter("a", 6), NOW, 0, new Told());
    load("a", LAYERS);
    Told late = new Told();
    cache.claim(adapter("b", 6), NOW, 100, late);
    cache.expire(100);
    assertThat(late.failure).isNull();
    cache.expire(101);
    assertThat(late.failure.code()).isEqualTo(ErrorCode.OVERLOADED);
    assertThat(late.failure).hasMessageContaining("18 of 30 pages");
  }

  @Test
  void adaptersThatAreAlwaysInUseAreDrainedForAMissThatHasWaited() {
    Told first = new Told();
    Told second = new Told();
    AdapterCache.Claim held = cache.claim(adapter("a", 5), 10, 1000, first);
    cache.claim(adapter("b", 5), 20, 1000, second);
    load("a", LAYERS);
    load("b", LAYERS);
    Told miss = new Told();
    cache.claim(adapter("c", 5), 100, 1000, miss);
    cache.relieve(150, 50);
    assertThat(first.revoked).isFalse();
    cache.relieve(151, 50);
    assertThat(first.revoked).isTrue(); // held longest
    assertThat(second.revoked).isFalse();
    cache.relieve(152, 50);
    assertThat(second.revoked).isFalse(); // enough is on its way
    // Whoever wants the drained adapter now stands in line behind the miss.
    Told again = new Told();
    cache.claim(adapter("a", 5), 160, 1000, again);
    assertThat(again.adapter).isNull();
    cache.release(held);
    freeAll();
    load("c", LAYERS);
    assertThat(miss.adapter).isNotNull();
    assertThat(again.adapter).isNull();
    assertThat(cache.stats().drains()).isEqualTo(1);
    cache.relieve(1000, 50);
    assertThat(second.revoked).isTrue();
  }

  @Test
  void aPinHoldsAnAdapterThatIsBeingDrained() {
    AdapterGeneration a = adapter("a", 5);
    AdapterCache.Claim held = cache.claim(a, 10, 1000, new Told());
    Told second = new Told();
    AdapterCache.Claim other = cache.claim(adapter("b", 5), 20, 1000, second);
    load("a", LAYERS);
    load("b", LAYERS);
    ResidentAdapter before = cache.resident(a.id()).orElseThrow();
    Told miss = new Told();
    cache.claim(adapter("c", 5), 100, 1000, miss);
    cache.relieve(151, 50);
    Told again = new Told();
    cache.claim(a, 155, 1000, again);
    assertThat(again.adapter).isNull();

    cache.pin(a);

    assertThat(again.adapter).isSameAs(before);
    cache.release(held);
    freeAll();
    assertThat(cache.resident(a.id())).containsSame(before);
    // The miss gets its memory from somebody else.
    cache.relieve(160, 50);
    assertThat(second.revoked).isTrue();
    cache.release(other);
    freeAll();
    load("c", LAYERS);
    assertThat(miss.adapter).isNotNull();
    assertThat(cache.resident(a.id())).containsSame(before);
    cache.checkInvariants();
  }

  @Test
  void anAdapterThatIsCompleteBeforeItsReportsAreInCanBeUsed() {
    AdapterCache.Claim claim = cache.claim(adapter("a", 4), NOW, 0, new Told());
    ResidentAdapter resident = loads.loading.getFirst();
    for (int layer = 0; layer < LAYERS; layer++) {
      resident.add(layer, null);
    }
    cache.release(claim);
    load("a", LAYERS); // The reports come only now.
    Told told = new Told();
    cache.claim(adapter("a", 4), NOW, 0, told);
    assertThat(told.adapter).isSameAs(resident);
  }

  @Test
  void pinningTheSameContentAgainTakesNoMoreMemory() {
    cache.pin(adapter("a", 6));
    cache.pin(adapter("a", 6)); // Registered again: an equal generation, but not the same object.
    assertThat(cache.pinned(new AdapterId("a", "d-a"))).isTrue();
  }

  @Test
  void onlyWhatPrefetchesCannotGiveIsDrained() {
    Told first = new Told();
    Told second = new Told();
    cache.claim(adapter("a", 3), 10, 1000, first);
    cache.claim(adapter("b", 3), 20, 1000, second);
    load("a", LAYERS);
    load("b", LAYERS);
    cache.prefetch(adapter("hint", 4));
    cache.claim(adapter("c", 6), 100, 1000, new Told());
    cache.relieve(200, 50);
    assertThat(first.revoked).isTrue();
    assertThat(second.revoked).isFalse();
  }

  @Test
  void whoeverIsDrainedAndComesBackIsTakenForANewcomer() {
    AdapterCache.Claim a = cache.claim(adapter("a", 5), 10, 10_000, new Told());
    Told b = new Told();
    cache.claim(adapter("b", 5), 20, 10_000, b);
    load("a", LAYERS);
    load("b", LAYERS);
    Told c = new Told();
    cache.claim(adapter("c", 5), 100, 10_000, c);
    cache.relieve(151, 50);
    Told again = new Told();
    cache.claim(adapter("a", 5), 160, 10_000, again);
    cache.release(a);
    freeAll();
    load("c", LAYERS);
    cache.relieve(210, 50);
    assertThat(b.revoked).isFalse(); // It has waited since 160, not since 10.
    cache.relieve(211, 50);
    assertThat(b.revoked).isTrue();
  }

  @Test
  void anAdapterLargerThanTheMemoryIsRefused() {
    assertThatThrownBy(() -> cache.claim(adapter("huge", 11), NOW, 0, new Told()))
        .isInstanceOf(InfiniLoraException.class)
        .hasMessageContaining("needs 33 pages of adapter memory, there are 30");
    cache.pin(adapter("a", 6));
    assertThatThrownBy(() -> cache.pin(adapter("b", 6)))
        .hasMessageContaining("would take 36 pages, there are 30");
  }

  @Test
  void prefetchingIsAHintThatNeverEvicts() {
    touch(adapter("a", 6));
    cache.prefetch(adapter("b", 6));
    assertThat(loads.loading).isEmpty();
    assertThat(loads.leaving).isEmpty();
    cache.prefetch(adapter("c", 4));
    assertThat(loads.loadingNames()).containsExactly("c");
    // A request needs the room of a prefetch that is not complete.
    cache.claim(adapter("d", 9), NOW, 0, new Told());
    assertThat(loads.leavingNames()).containsExactlyInAnyOrder("a", "c");
  }

  @Test
  void aForgottenAdapterLeavesWithItsLastClaim() {
    AdapterCache.Claim claim = cache.claim(adapter("a", 4), NOW, 0, new Told());
    load("a", LAYERS);
    cache.forget(adapter("a", 4));
    assertThat(loads.leaving).isEmpty();
    cache.release(claim);
    cache.forget(adapter("a", 4));
    assertThat(loads.leavingNames()).containsExactly("a");
  }

  @Test
  void greedyDualKeepsWhatIsPopularOrDearToBringBack() {
    cache = new AdapterCache(30, new GreedyDual(), loads);
    loads.costs.put("dear", 8.0);
    touch(adapter("popular", 3));
    touch(adapter("popular", 3));
    touch(adapter("popular", 3));
    touch(adapter("dear", 3));
    touch(adapter("plain", 3));
    cache.claim(adapter("new", 3), NOW, 0, new Told());
    assertThat(loads.leavingNames()).containsExactly("plain");
  }

  @ParameterizedTest
  @ValueSource(longs = {1, 2, 3, 4, 5, 6, 7, 8})
  void nothingIsLostWhateverHappens(long seed) {
    Random random = new Random(seed);
    cache = new AdapterCache(30, seed % 2 == 0 ? new LeastRecentlyUsed() : new GreedyDual(), loads);
    List<AdapterGeneration> adapters = new ArrayList<>();
    for (int i = 0; i < 12; i++) {
      adapters.add(adapter("a" + i, 1 + random.nextInt(4)));
    }
    Map<AdapterCache.Claim, Told> open = new HashMap<>();
    Map<ResidentAdapter, Integer> progress = new HashMap<>();
    for (int step = 0; step < 4000; step++) {
      AdapterGeneration any = adapters.get(random.nextInt(adapters.size()));
      switch (random.nextInt(10)) {
        case 0, 1, 2 -> {
          Told told = new Told();
          open.put(cache.claim(any, NOW, step + random.nextInt(200), told), told);
        }
        case 3, 4 -> open.keySet().stream().findAny().ifPresent(c -> release(c, open));
        case 5, 6, 7 -> advance(random, progress);
        case 8 -> freeAll();
        default -> {
          if (random.nextInt(8) == 0 && !loads.loading.isEmpty()) {
            cache.loadFailed(
                loads.loading.getFirst(), new InfiniLoraException(ErrorCode.BAD_ADAPTER, "torn"));
          } else if (random.nextBoolean()) {
            cache.prefetch(any);
          }
          cache.expire(step);
        }
      }
      open.values().removeIf(t -> t.failure != null);
      cache.checkInvariants();
      assertThat(cache.reservedPages()).isBetween(0, 30);
    }
    // Everyone who still waits is served or fails once nothing disturbs any more.
    List.copyOf(open.keySet()).forEach(c -> release(c, open));
    for (int i = 0; i < 200; i++) {
      freeAll();
      advance(random, progress);
    }
    for (AdapterGeneration adapter : adapters) {
      Told told = new Told();
      AdapterCache.Claim claim = cache.claim(adapter, NOW, 1_000_000, told);
      for (int i = 0; i < 20 && told.adapter == null; i++) {
        freeAll();
        advance(random, progress);
      }
      assertThat(told.adapter).as(adapter.toString()).isNotNull();
      cache.release(claim);
    }
  }

  private void release(AdapterCache.Claim claim, Map<AdapterCache.Claim, Told> open) {
    open.remove(claim);
    cache.release(claim);
  }

  private void advance(Random random, Map<ResidentAdapter, Integer> progress) {
    if (loads.loading.isEmpty()) {
      return;
    }
    ResidentAdapter adapter = loads.loading.get(random.nextInt(loads.loading.size()));
    int layer = progress.merge(adapter, 1, Integer::sum) - 1;
    if (layer == LAYERS - 1) {
      loads.loading.remove(adapter);
    }
    cache.layerReady(adapter, layer);
  }
}
