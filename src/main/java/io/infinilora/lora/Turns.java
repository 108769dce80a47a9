package io.infinilora.lora;

import io.vertx.core.Future;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Supplier;

/** Lets changes of one name come one after the other, in order of request. Event loop only. */
final class Turns {
  private final Map<String, Future<?>> lastOfName = new HashMap<>();

  /** Makes a change when all that were requested before, of the same name, have ended. */
  Future<?> take(String name, Supplier<Future<?>> change) {
    Future<?> before = lastOfName.getOrDefault(name, Future.succeededFuture());
    Future<?> now = before.transform(done -> change.get());
    lastOfName.put(name, now);
    now.onComplete(done -> lastOfName.remove(name, now));
    return now;
  }
}
