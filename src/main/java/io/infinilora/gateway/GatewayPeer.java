package io.infinilora.gateway;

import io.infinilora.wire.BaseAddresses;
import io.infinilora.wire.BaseCall;
import io.infinilora.wire.StreamMessage;
import io.infinilora.wire.StreamPart;
import io.vertx.core.eventbus.EventBus;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Executor;

/**
 * A gateway as a base knows it: its streams, and when it was last heard of. What comes up in
 * several streams at the same moment leaves in one message. Event loop only.
 */
final class GatewayPeer {
  private final UUID base;
  private final UUID gateway;
  private final EventBus bus;
  private final Executor later;
  private final Runnable flushed;
  private final Map<Long, ServedStream> streams = new LinkedHashMap<>();
  private final Set<ServedStream> ready = new LinkedHashSet<>();
  private long heardNanos;
  private boolean flushing;

  /**
   * A gateway without streams.
   *
   * @param base incarnation
   * @param later runs a task on the event loop, behind those that wait
   * @param flushed called when everything was sent
   */
  GatewayPeer(UUID base, UUID gateway, EventBus bus, Executor later, Runnable flushed) {
    this.base = base;
    this.gateway = gateway;
    this.bus = bus;
    this.later = later;
    this.flushed = flushed;
  }

  UUID gateway() {
    return gateway;
  }

  void heard(long nanos) {
    heardNanos = nanos;
  }

  /** {@link System#nanoTime} of its last call. */
  long heardNanos() {
    return heardNanos;
  }

  /** Whether it has streams, or was not sent their ends. */
  boolean busy() {
    return !streams.isEmpty() || !ready.isEmpty();
  }

  Collection<ServedStream> streams() {
    return List.copyOf(streams.values());
  }

  /** A stream of this number, or null if there is one already. */
  ServedStream open(BaseCall.Generate call) {
    if (streams.containsKey(call.stream())) {
      return null;
    }
    ServedStream stream =
        new ServedStream(call.stream(), call.request().adapter(), later, this::news);
    streams.put(call.stream(), stream);
    return stream;
  }

  void credit(long stream, long total) {
    ServedStream known = streams.get(stream);
    if (known != null) {
      known.credit(total);
    }
  }

  void cancel(long stream) {
    ServedStream known = streams.remove(stream);
    if (known != null) {
      ready.remove(known);
      known.cancel();
    }
  }

  /** Takes credits, ends streams that the gateway does not know, and answers. */
  void ping(BaseCall.Ping ping) {
    flush();
    Set<Long> unlisted = new HashSet<>(streams.keySet());
    long[] sent = new long[ping.streams().length];
    for (int i = 0; i < sent.length; i++) {
      ServedStream known = streams.get(ping.streams()[i]);
      unlisted.remove(ping.streams()[i]);
      sent[i] = known == null ? -1 : known.sent();
      credit(ping.streams()[i], ping.credits()[i]);
    }
    unlisted.forEach(this::cancel);
    bus.send(BaseAddresses.streams(gateway), new StreamMessage.Pong(base, ping.streams(), sent));
  }

  private void news(ServedStream stream) {
    if (stream.over()) {
      streams.remove(stream.id());
    }
    ready.add(stream);
    if (!flushing) {
      flushing = true;
      later.execute(this::flush);
    }
  }

  /** Sends what has come up. */
  void flush() {
    flushing = false;
    if (ready.isEmpty()) {
      return;
    }
    List<StreamPart> parts = new ArrayList<>(ready.size());
    ready.forEach(stream -> parts.add(stream.take()));
    ready.clear();
    bus.send(BaseAddresses.streams(gateway), new StreamMessage.Parts(base, parts));
    flushed.run();
  }
}
