package io.infinilora.lora;

import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoad;
import io.infinilora.core.AdapterRegistration;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.json.DecodeException;
import io.vertx.core.json.JsonObject;
import io.vertx.core.shareddata.AsyncMap;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * What a coordinator has registered, in a map that outlives it: in a cluster that of the nodes that
 * are left, otherwise that of its Vert.x instance. Adapters that are only tried are not in it. A
 * map that does not answer is complained of and done without. Event loop only.
 */
final class SavedAdapters {
  private static final Logger log = LoggerFactory.getLogger(SavedAdapters.class);
  private static final String MAP = "infinilora.adapters";

  /**
   * An adapter that is to be there.
   *
   * @param number ascending in order of registration
   * @param registration how it was registered
   * @param digest of the content it had
   * @param pinned whether it stays in device memory unused
   */
  record Saved(long number, AdapterRegistration registration, String digest, boolean pinned) {

    AdapterId id() {
      return new AdapterId(registration.name(), digest);
    }

    private String text() {
      return new JsonObject()
          .put("number", number)
          .put("source", registration.source())
          .put("trusted", registration.trusted())
          .put("allowNoEffect", registration.allowNoEffect())
          .put("digest", digest)
          .put("pinned", pinned)
          .encode();
    }

    private static Saved parse(String name, String text) {
      JsonObject json = new JsonObject(text);
      return new Saved(
          json.getLong("number"),
          new AdapterRegistration(
              name,
              json.getString("source"),
              json.getBoolean("trusted"),
              json.getBoolean("allowNoEffect")),
          json.getString("digest"),
          json.getBoolean("pinned"));
    }
  }

  private final AsyncMap<String, String> map;
  private final Map<String, Saved> byName = new HashMap<>();
  private long last;

  private SavedAdapters(AsyncMap<String, String> map) {
    this.map = map;
  }

  /** What earlier coordinators have left. */
  static Future<SavedAdapters> open(Vertx vertx) {
    return vertx
        .sharedData()
        .<String, String>getAsyncMap(MAP)
        .compose(
            map -> {
              SavedAdapters saved = new SavedAdapters(map);
              return map.entries().map(saved::fill);
            });
  }

  private SavedAdapters fill(Map<String, String> entries) {
    entries.forEach(
        (name, text) -> {
          try {
            Saved saved = Saved.parse(name, text);
            byName.put(name, saved);
            last = Math.max(last, saved.number());
          } catch (DecodeException | ClassCastException | NullPointerException e) {
            log.error("what is kept of adapter {} cannot be read: {}", name, text, e);
          }
        });
    return this;
  }

  /** All in order of registration. */
  List<Saved> list() {
    List<Saved> all = new ArrayList<>(byName.values());
    all.sort(Comparator.comparingLong(Saved::number));
    return all;
  }

  /** The adapter of a name. */
  Optional<Saved> find(String name) {
    return Optional.ofNullable(byName.get(name));
  }

  /** How an adapter was registered; if that is not known, from where it lies. */
  AdapterRegistration registration(AdapterId id, String directory) {
    Saved saved = byName.get(id.name());
    return saved != null && saved.id().equals(id)
        ? saved.registration()
        : new AdapterRegistration(id.name(), directory, true, true);
  }

  /** Keeps an adapter that was registered; completes, without failing, when it is kept. */
  Future<Void> put(AdapterRegistration registration, String digest) {
    String name = registration.name();
    if (AdapterLoad.isDryRun(name)) {
      return Future.succeededFuture();
    }
    Saved before = byName.get(name);
    return write(
        new Saved(
            before == null ? ++last : before.number(),
            registration,
            digest,
            before != null && before.digest().equals(digest) && before.pinned()));
  }

  /** Keeps whether an adapter is pinned. */
  Future<Void> pinned(String name, boolean pinned) {
    Saved s = byName.get(name);
    return s == null || s.pinned() == pinned
        ? Future.succeededFuture()
        : write(new Saved(s.number(), s.registration(), s.digest(), pinned));
  }

  private Future<Void> write(Saved saved) {
    String name = saved.registration().name();
    byName.put(name, saved);
    return map.put(name, saved.text()).recover(e -> missed(name, e));
  }

  /** Forgets a name; completes, without failing, when it is forgotten. */
  Future<Void> remove(String name) {
    return byName.remove(name) == null
        ? Future.succeededFuture()
        : map.remove(name).<Void>mapEmpty().recover(e -> missed(name, e));
  }

  private static Future<Void> missed(String name, Throwable cause) {
    log.warn("a change of adapter {} will not outlive this process", name, cause);
    return Future.succeededFuture();
  }
}
