package io.infinilora.gateway;

import io.infinilora.core.EngineLoad;
import io.infinilora.wire.BaseNotice;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.function.Predicate;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The bases that a gateway has heard of, by incarnation: two of one name, of which one has just
 * died, are two. Event loop only, except where noted.
 */
final class BaseDirectory {
  private static final Logger log = LoggerFactory.getLogger(BaseDirectory.class);

  private final String fingerprint;
  private final Map<UUID, KnownBase> bases = new HashMap<>();
  private long turn;
  private volatile EngineLoad load = new EngineLoad(0, 0, 0, 0, 0);
  private volatile int contextLength;

  /**
   * Knows no bases.
   *
   * @param fingerprint of the bases that may be used
   * @param contextLength reported until the first base is heard of
   */
  BaseDirectory(String fingerprint, int contextLength) {
    this.fingerprint = fingerprint;
    this.contextLength = contextLength;
  }

  /**
   * Takes a notice of a base that is not gone.
   *
   * @return whether requests can be sent where none could before
   */
  boolean heard(BaseNotice notice, long now) {
    KnownBase known = bases.get(notice.incarnation());
    boolean before = known != null && usable(known);
    if (known == null) {
      known = new KnownBase(notice, now);
      bases.put(notice.incarnation(), known);
      welcome(notice);
    } else {
      known.heard(notice, now);
    }
    refresh();
    return usable(known) && !before;
  }

  private void welcome(BaseNotice notice) {
    if (notice.fingerprint().equals(fingerprint)) {
      log.info("base model {} ({}) has joined", notice.base(), notice.incarnation());
    } else {
      log.warn(
          "base model {} serves {} with fingerprint {}; this gateway serves {} and does not use it",
          notice.base(),
          notice.model(),
          notice.fingerprint(),
          fingerprint);
    }
  }

  KnownBase find(UUID incarnation) {
    return bases.get(incarnation);
  }

  void forget(UUID incarnation) {
    bases.remove(incarnation);
    refresh();
  }

  /** A copy. */
  List<KnownBase> all() {
    return List.copyOf(bases.values());
  }

  private boolean usable(KnownBase base) {
    return base.serving() && base.notice().fingerprint().equals(fingerprint);
  }

  private void refresh() {
    int running = 0;
    int waiting = 0;
    int used = 0;
    int total = 0;
    int adapters = 0;
    int longest = 0;
    for (KnownBase base : bases.values()) {
      if (base.notice().fingerprint().equals(fingerprint)) {
        EngineLoad part = base.notice().load();
        running += part.running();
        waiting += part.waiting();
        used += part.kvBlocksUsed();
        total += part.kvBlocksTotal();
        adapters += part.adaptersInUse();
        longest = Math.max(longest, usable(base) ? base.notice().contextLength() : 0);
      }
    }
    load = new EngineLoad(running, waiting, used, total, adapters);
    contextLength = longest > 0 ? longest : contextLength;
  }

  /** Sum over the bases that may be used; any thread. */
  EngineLoad load() {
    return load;
  }

  /** The longest context of those that take requests, or that did; any thread. */
  int contextLength() {
    return contextLength;
  }

  /**
   * Chooses a base for a request.
   *
   * @param context that the base must have
   * @param avoided incarnations that are out of the question
   */
  Optional<KnownBase> choose(int context, Optional<String> adapter, Set<UUID> avoided) {
    Predicate<KnownBase> possible =
        base ->
            usable(base)
                && base.notice().contextLength() >= context
                && !avoided.contains(base.incarnation());
    List<KnownBase> possibles = new ArrayList<>(bases.values());
    possibles.removeIf(possible.negate());
    if (possibles.isEmpty()) {
      return Optional.empty();
    }
    List<RoutingPolicy.Candidate> candidates =
        possibles.stream().map(base -> base.candidate(adapter)).toList();
    return Optional.of(possibles.get(RoutingPolicy.choose(candidates, turn++)));
  }
}
