package io.infinilora.fake;

import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.Arrays;

/** A LoRA server's device that sees and gives rows as if they had been in frames. */
public final class Rounding {
  private Rounding() {}

  /** The device, whose low-rank products round what they read and what they have written. */
  public static Backend of(Backend device) {
    return (Backend)
        Proxy.newProxyInstance(
            Rounding.class.getClassLoader(),
            new Class<?>[] {Backend.class},
            (self, method, args) -> {
              Object result = call(device, method, args);
              return result instanceof OpStream ops ? of(ops) : result;
            });
  }

  private static OpStream of(OpStream ops) {
    return (OpStream)
        Proxy.newProxyInstance(
            Rounding.class.getClassLoader(),
            new Class<?>[] {OpStream.class},
            (self, method, args) -> {
              boolean products =
                  method.getName().startsWith("loraAdd")
                      || method.getName().startsWith("expertLora");
              if (products) {
                round(ops, (Tensor) args[args.length - 2]);
              }
              Object result = call(ops, method, args);
              if (products) {
                Object out = args[args.length - 1];
                for (Tensor t : out instanceof Tensor one ? new Tensor[] {one} : (Tensor[]) out) {
                  round(ops, t);
                }
              }
              return result;
            });
  }

  private static void round(OpStream ops, Tensor tensor) {
    if (tensor == null) {
      return;
    }
    int[] rows = new int[tensor.rows()];
    Arrays.setAll(rows, i -> i);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment packed = arena.allocate(2L * rows.length * tensor.cols());
      ops.packRows(tensor, rows, packed);
      ops.unpackRows(packed, tensor);
    }
  }

  private static Object call(Object target, Method method, Object[] args) throws Throwable {
    try {
      return method.invoke(target, args);
    } catch (InvocationTargetException e) {
      throw e.getCause();
    }
  }
}
