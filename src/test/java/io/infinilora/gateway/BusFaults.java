package io.infinilora.gateway;

import io.infinilora.wire.BaseNotice;
import io.infinilora.wire.StreamMessage;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.DeliveryContext;
import io.vertx.core.eventbus.DeliveryOptions;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Predicate;

/** Loses, doubles and swaps messages of an event bus, as tests ask for. */
final class BusFaults {
  private static final String AGAIN = "again";

  private final Vertx vertx;
  private final Set<UUID> dead = ConcurrentHashMap.newKeySet();
  private volatile Predicate<Object> lost = message -> false;
  private volatile Predicate<Object> doubled = message -> false;
  private volatile Predicate<Object> overtaken = message -> false;
  private DeliveryContext<Object> held;

  BusFaults(Vertx vertx) {
    this.vertx = vertx;
    vertx.eventBus().addOutboundInterceptor(this::intercept);
  }

  /** Nothing goes to this base any more, nor comes from it. */
  void kill(UUID incarnation) {
    dead.add(incarnation);
  }

  void lose(Predicate<Object> which) {
    lost = which;
  }

  void send2(Predicate<Object> which) {
    doubled = which;
  }

  /** Such a message arrives behind the next such one; the last may never arrive. */
  void swap(Predicate<Object> which) {
    overtaken = which;
  }

  private synchronized void intercept(DeliveryContext<Object> context) {
    Object message = context.body();
    if (context.message().headers().contains(AGAIN)) {
      context.next();
      return;
    }
    if (ofDead(context, message) || lost.test(message)) {
      return;
    }
    if (held == null && overtaken.test(message)) {
      held = context;
      return;
    }
    context.next();
    if (doubled.test(message)) {
      vertx
          .eventBus()
          .send(context.message().address(), message, new DeliveryOptions().addHeader(AGAIN, ""));
    }
    if (held != null && message.getClass() == held.body().getClass()) {
      DeliveryContext<Object> late = held;
      held = null;
      late.next();
    }
  }

  private boolean ofDead(DeliveryContext<Object> context, Object message) {
    UUID sender =
        switch (message) {
          case BaseNotice notice -> notice.incarnation();
          case StreamMessage.Parts parts -> parts.base();
          case StreamMessage.Pong pong -> pong.base();
          default -> null;
        };
    return sender != null && dead.contains(sender)
        || dead.stream().anyMatch(id -> context.message().address().contains(id.toString()));
  }
}
