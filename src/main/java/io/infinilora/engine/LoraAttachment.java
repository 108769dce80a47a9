package io.infinilora.engine;

import io.vertx.core.Future;
import io.vertx.core.Vertx;
import java.util.concurrent.Executor;
import java.util.function.Consumer;

/** Finds the LoRA side of a base-model instance. */
@FunctionalInterface
public interface LoraAttachment {

  /**
   * Attaches; called once, on the event loop.
   *
   * @param loop runs a task on the instance's event loop
   * @param driver runs a task on its driver thread, between two steps
   * @return fails if there is no LoRA side
   */
  Future<LoraRuntime> attach(Vertx vertx, Executor loop, Consumer<Runnable> driver);
}
