package io.infinilora.gateway;

import io.infinilora.core.EngineLoad;
import io.infinilora.wire.BaseAddresses;
import io.infinilora.wire.BaseNotice;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;

/** A base as a gateway knows it. Event loop only. */
final class KnownBase {
  private final String address;
  private final Map<Long, RoutedGeneration> streams = new HashMap<>();
  private BaseNotice notice;
  private long heardNanos;
  private int sentSince;
  private boolean asked;
  private long askedNanos;

  /** A base whose first notice has come. */
  KnownBase(BaseNotice notice, long now) {
    this.address = BaseAddresses.calls(notice.base(), notice.incarnation());
    heard(notice, now);
  }

  /** Another notice has come. */
  void heard(BaseNotice news, long now) {
    notice = news;
    heardNanos = now;
    sentSince = 0;
  }

  BaseNotice notice() {
    return notice;
  }

  String name() {
    return notice.base();
  }

  UUID incarnation() {
    return notice.incarnation();
  }

  /** Where it takes calls. */
  String address() {
    return address;
  }

  boolean serving() {
    return notice.state() == BaseNotice.State.SERVING;
  }

  /** {@link System#nanoTime} of its last notice. */
  long heardNanos() {
    return heardNanos;
  }

  /** A stream was opened here. */
  void open(long stream, RoutedGeneration generation) {
    streams.put(stream, generation);
    sentSince++;
  }

  void close(long stream) {
    streams.remove(stream);
    if (streams.isEmpty()) {
      asked = false;
    }
  }

  /** Who has this stream, or null. */
  RoutedGeneration stream(long stream) {
    return streams.get(stream);
  }

  /** A copy of the open streams. */
  Map<Long, RoutedGeneration> streams() {
    return Map.copyOf(streams);
  }

  List<RoutedGeneration> generations() {
    return List.copyOf(streams.values());
  }

  /** A ping was sent. */
  void asked(long now) {
    if (!asked) {
      asked = true;
      askedNanos = now;
    }
  }

  /** A ping was answered, or there is no use in waiting for it. */
  void answered() {
    asked = false;
  }

  /** Whether a ping has been without an answer for so long. */
  boolean owesAnswer(long now, long nanos) {
    return asked && now - askedNanos > nanos;
  }

  /** As the policy sees it. */
  RoutingPolicy.Candidate candidate(Optional<String> adapter) {
    EngineLoad load = notice.load();
    return new RoutingPolicy.Candidate(
        load.running() + load.waiting() + sentSince,
        notice.maxRunning(),
        (double) load.kvBlocksUsed() / Math.max(1, load.kvBlocksTotal()),
        adapter.isPresent()
            && (notice.adapters().contains(adapter.get())
                || streams.values().stream().anyMatch(g -> g.adapter().equals(adapter))));
  }
}
