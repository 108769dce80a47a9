package io.infinilora.engine;

import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.LoraSite;
import io.infinilora.model.LoraPort;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;

/** Makes one step fail, in a place of choice, once armed. */
final class Faults {
  static final String MESSAGE = "a fault of the test";

  private final AtomicInteger armed = new AtomicInteger();
  private final AtomicInteger count = new AtomicInteger();
  private final CountDownLatch hang = new CountDownLatch(1);

  /** Where a step can fail. */
  enum Place {
    /** On the event loop, before the driver has the step. */
    ANNOUNCE,
    /** On the base's driver, in the second layer. */
    PUBLISH,
    /** The same, after a base projection. */
    JOIN,
    /** In the LoRA server. */
    LORA_SERVER,
    /** In the LoRA server, which does not answer before the step's deadline. */
    LORA_SERVER_HANGS
  }

  /** The next step that comes by fails. */
  void arm() {
    armed.set(1);
  }

  /** No step fails any more, and what hangs goes on. */
  void disarm() {
    armed.set(0);
    hang.countDown();
  }

  /** How many faults there were. */
  int count() {
    return count.get();
  }

  private boolean strikes() {
    boolean now = armed.compareAndSet(1, 0);
    if (now) {
      count.incrementAndGet();
    }
    return now;
  }

  private void strike(boolean here) {
    if (here && strikes()) {
      throw new IllegalStateException(MESSAGE);
    }
  }

  /** The base model's side with a fault. */
  LoraRuntime in(LoraRuntime runtime, Place place) {
    return new LoraRuntime() {
      @Override
      public Optional<AdapterId> find(String name) {
        return runtime.find(name);
      }

      @Override
      public AdapterAdmin admin() {
        return runtime.admin();
      }

      @Override
      public Lease lease(AdapterId adapter, long deadlineNanos, LeaseListener listener) {
        return runtime.lease(adapter, deadlineNanos, listener);
      }

      @Override
      public void close() {
        runtime.close();
      }

      @Override
      public List<AdapterId> adapters() {
        return runtime.adapters();
      }

      @Override
      public Step announce(int[] slotOfRow, long deadlineNanos) {
        strike(place == Place.ANNOUNCE);
        Step step = runtime.announce(slotOfRow, deadlineNanos);
        return ops -> in(step.port(ops), place);
      }
    };
  }

  private LoraPort in(LoraPort port, Place place) {
    return new LoraPort() {
      @Override
      public boolean reads(int layer, LoraSite site) {
        return port.reads(layer, site);
      }

      @Override
      public void publish(int layer, LoraSite site, Tensor x) {
        strike(place == Place.PUBLISH && layer == 1 && site == LoraSite.MLP_IN);
        port.publish(layer, site, x);
      }

      @Override
      public void join(int layer, LoraSite site, Tensor x, Tensor... outs) {
        strike(place == Place.JOIN && layer == 1 && site == LoraSite.ATTENTION_OUT);
        port.join(layer, site, x, outs);
      }

      @Override
      public void publishRouted(int layer, LoraSite site, Tensor x, Routing routing) {
        port.publishRouted(layer, site, x, routing);
      }

      @Override
      public void joinRouted(int layer, LoraSite site, Tensor x, Routing routing, Tensor... outs) {
        port.joinRouted(layer, site, x, routing, outs);
      }
    };
  }

  /** The LoRA server's device with a fault. */
  Backend in(Backend backend, Place place) {
    return proxy(
        Backend.class,
        (self, method, args) -> {
          Object result = invoke(backend, method, args);
          return result instanceof OpStream ops ? in(ops, place) : result;
        });
  }

  private OpStream in(OpStream ops, Place place) {
    return proxy(
        OpStream.class,
        (self, method, args) -> {
          if (method.getName().equals("loraAdd") && strikes()) {
            if (place == Place.LORA_SERVER) {
              throw new IllegalStateException(MESSAGE);
            }
            hang.await();
          }
          return invoke(ops, method, args);
        });
  }

  private static Object invoke(Object target, Method method, Object[] args) throws Throwable {
    try {
      return method.invoke(target, args);
    } catch (InvocationTargetException e) {
      throw e.getCause();
    }
  }

  private static <T> T proxy(Class<T> type, InvocationHandler handler) {
    return type.cast(
        Proxy.newProxyInstance(Faults.class.getClassLoader(), new Class<?>[] {type}, handler));
  }
}
