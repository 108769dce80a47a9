package io.infinilora.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * NVIDIA's cuBLASLt of whatever major version is installed, bound by the foreign-function
 * interface: what dense products need, no more. Constants are those of {@code cublasLt.h}, which
 * have not changed since version 11. Thread-safe.
 */
final class CublasLt implements AutoCloseable {
  static final int R_32F = 0;
  static final int R_16BF = 14;

  private static final int COMPUTE_32F = 68;
  private static final int OP_T = 1;
  private static final int DESC_TRANSA = 3;
  private static final int PREFERENCE_MAX_WORKSPACE = 1;

  /** Of A, B, C and D: 256 bytes unless told otherwise, but rows here begin at any 16. */
  private static final int[] PREFERENCE_MIN_ALIGNMENTS = {5, 6, 7, 8};

  private static final int ALIGNMENT = 16;

  /** Bytes of {@code cublasLtMatmulAlgo_t} and of the heuristic's result that begins with it. */
  static final int ALGORITHM_BYTES = 64;

  private static final int RESULT_BYTES = 96;

  private static final List<String> NAMES =
      List.of("libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11");
  private static final List<String> FOLDERS =
      List.of(
          "",
          "/usr/local/cuda/lib64/",
          "/usr/local/cuda/targets/x86_64-linux/lib/",
          "/usr/lib/x86_64-linux-gnu/");

  private final MethodHandle destroy;
  private final MethodHandle matmul;
  private final MethodHandle descCreate;
  private final MethodHandle descSet;
  private final MethodHandle descDestroy;
  private final MethodHandle layoutCreate;
  private final MethodHandle layoutDestroy;
  private final MethodHandle preferenceCreate;
  private final MethodHandle preferenceSet;
  private final MethodHandle preferenceDestroy;
  private final MethodHandle heuristic;
  private final MemorySegment handle;

  private CublasLt(SymbolLookup symbols) {
    matmul =
        bind(
            symbols,
            "cublasLtMatmul",
            ADDRESS,
            ADDRESS,
            ADDRESS,
            JAVA_LONG,
            ADDRESS,
            JAVA_LONG,
            ADDRESS,
            ADDRESS,
            JAVA_LONG,
            ADDRESS,
            JAVA_LONG,
            ADDRESS,
            ADDRESS,
            JAVA_LONG,
            JAVA_LONG,
            JAVA_LONG);
    descCreate = bind(symbols, "cublasLtMatmulDescCreate", ADDRESS, JAVA_INT, JAVA_INT);
    descSet =
        bind(symbols, "cublasLtMatmulDescSetAttribute", ADDRESS, JAVA_INT, ADDRESS, JAVA_LONG);
    descDestroy = bind(symbols, "cublasLtMatmulDescDestroy", ADDRESS);
    layoutCreate =
        bind(
            symbols,
            "cublasLtMatrixLayoutCreate",
            ADDRESS,
            JAVA_INT,
            JAVA_LONG,
            JAVA_LONG,
            JAVA_LONG);
    layoutDestroy = bind(symbols, "cublasLtMatrixLayoutDestroy", ADDRESS);
    preferenceCreate = bind(symbols, "cublasLtMatmulPreferenceCreate", ADDRESS);
    preferenceSet =
        bind(
            symbols, "cublasLtMatmulPreferenceSetAttribute", ADDRESS, JAVA_INT, ADDRESS, JAVA_LONG);
    preferenceDestroy = bind(symbols, "cublasLtMatmulPreferenceDestroy", ADDRESS);
    heuristic =
        bind(
            symbols,
            "cublasLtMatmulAlgoGetHeuristic",
            ADDRESS,
            ADDRESS,
            ADDRESS,
            ADDRESS,
            ADDRESS,
            ADDRESS,
            ADDRESS,
            JAVA_INT,
            ADDRESS,
            ADDRESS);
    destroy = bind(symbols, "cublasLtDestroy", ADDRESS);
    handle = create(bind(symbols, "cublasLtCreate", ADDRESS), "cublasLtCreate");
  }

  /** Looks for the library; for the current context's device. */
  static Optional<CublasLt> find() {
    for (String folder : FOLDERS) {
      for (String name : NAMES) {
        try {
          return Optional.of(
              new CublasLt(SymbolLookup.libraryLookup(folder + name, Arena.global())));
        } catch (IllegalArgumentException e) {
          // Not there; perhaps the next one is.
        }
      }
    }
    return Optional.empty();
  }

  /** Where {@link #find} looks, for messages. */
  static List<String> places() {
    List<String> places = new ArrayList<>();
    FOLDERS.forEach(folder -> NAMES.forEach(name -> places.add(folder + name)));
    return places;
  }

  private static MethodHandle bind(SymbolLookup symbols, String name, MemoryLayout... parameters) {
    return Linker.nativeLinker()
        .downcallHandle(symbols.findOrThrow(name), FunctionDescriptor.of(JAVA_INT, parameters));
  }

  private static void check(int status, String call) {
    if (status != 0) {
      throw new InfiniLoraException(
          ErrorCode.INTERNAL, "%s failed with cuBLAS status %d".formatted(call, status));
    }
  }

  /** Calls a creating function whose first argument is where the new object's address goes. */
  private static MemorySegment create(MethodHandle function, String call, Object... arguments) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(ADDRESS);
      Object[] all = new Object[arguments.length + 1];
      all[0] = out;
      System.arraycopy(arguments, 0, all, 1, arguments.length);
      check((int) function.invokeWithArguments(all), call);
      return out.get(ADDRESS, 0);
    } catch (RuntimeException e) {
      throw e;
    } catch (Throwable e) {
      throw new IllegalStateException(call, e);
    }
  }

  private static void destroy(MethodHandle function, MemorySegment object, String call) {
    try {
      check((int) function.invokeExact(object), call);
    } catch (RuntimeException e) {
      throw e;
    } catch (Throwable e) {
      throw new IllegalStateException(call, e);
    }
  }

  /**
   * How to compute a product of one shape. Whoever has it destroys it; products that were called
   * are not concerned.
   *
   * @param algorithm {@link #ALGORITHM_BYTES} that cuBLASLt chose
   */
  record Plan(
      MemorySegment desc,
      MemorySegment w,
      MemorySegment x,
      MemorySegment y,
      MemorySegment algorithm,
      String shape) {}

  /** Frees a plan. */
  void destroy(Plan plan) {
    destroy(descDestroy, plan.desc(), plan.shape());
    for (MemorySegment layout : List.of(plan.w(), plan.x(), plan.y())) {
      destroy(layoutDestroy, layout, plan.shape());
    }
  }

  /**
   * Plans {@code y [rows, n] = x [rows, k] W [n, k]^T}, row-major, x and W bf16.
   *
   * @param wide whether y is float32 instead of bf16
   * @param workspace bytes that the product may use
   */
  Plan plan(int rows, int n, int k, int xStride, int yStride, boolean wide, long workspace) {
    String shape = "cuBLASLt product [%d, %d] x [%d, %d]".formatted(rows, k, n, k);
    MemorySegment desc = create(descCreate, shape, COMPUTE_32F, R_32F);
    // Column-major as cuBLAS sees it: y^T = W^T' x^T, each matrix being its own transpose.
    MemorySegment w = create(layoutCreate, shape, R_16BF, (long) k, (long) n, (long) k);
    MemorySegment x = create(layoutCreate, shape, R_16BF, (long) k, (long) rows, (long) xStride);
    MemorySegment y =
        create(layoutCreate, shape, wide ? R_32F : R_16BF, (long) n, (long) rows, (long) yStride);
    Plan plan = new Plan(desc, w, x, y, Arena.ofAuto().allocate(ALGORITHM_BYTES, 8), shape);
    MemorySegment preference = create(preferenceCreate, shape);
    try {
      choose(plan, preference, workspace);
    } catch (RuntimeException e) {
      destroy(plan);
      throw e;
    } finally {
      destroy(preferenceDestroy, preference, shape);
    }
    return plan;
  }

  /** Finishes a plan. */
  private void choose(Plan plan, MemorySegment preference, long workspace) {
    String shape = plan.shape();
    MemorySegment desc = plan.desc();
    MemorySegment y = plan.y();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment transpose = arena.allocateFrom(JAVA_INT, OP_T);
      check((int) descSet.invokeExact(desc, DESC_TRANSA, transpose, 4L), shape);
      MemorySegment limit = arena.allocateFrom(JAVA_LONG, workspace);
      check(
          (int) preferenceSet.invokeExact(preference, PREFERENCE_MAX_WORKSPACE, limit, 8L), shape);
      MemorySegment alignment = arena.allocateFrom(JAVA_INT, ALIGNMENT);
      for (int operand : PREFERENCE_MIN_ALIGNMENTS) {
        check((int) preferenceSet.invokeExact(preference, operand, alignment, 4L), shape);
      }
      MemorySegment result = arena.allocate(RESULT_BYTES, 8);
      MemorySegment count = arena.allocate(JAVA_INT);
      check(
          (int)
              heuristic.invokeExact(
                  handle, desc, plan.w(), plan.x(), y, y, preference, 1, result, count),
          shape);
      if (count.get(JAVA_INT, 0) == 0) {
        throw new InfiniLoraException(ErrorCode.INTERNAL, shape + ": cuBLASLt knows no algorithm");
      }
      plan.algorithm().copyFrom(result.asSlice(0, ALGORITHM_BYTES));
    } catch (RuntimeException e) {
      throw e;
    } catch (Throwable e) {
      throw new IllegalStateException(shape, e);
    }
  }

  /** Computes; addresses are of device memory. */
  void multiply(
      Plan plan, long w, long x, long y, long workspace, long workspaceBytes, long stream) {
    int status;
    try {
      status =
          (int)
              matmul.invokeExact(
                  handle,
                  plan.desc(),
                  Scalars.ONE,
                  w,
                  plan.w(),
                  x,
                  plan.x(),
                  Scalars.ZERO,
                  y,
                  plan.y(),
                  y,
                  plan.y(),
                  plan.algorithm(),
                  workspace,
                  workspaceBytes,
                  stream);
    } catch (Throwable e) {
      throw new IllegalStateException(plan.shape(), e);
    }
    check(status, plan.shape());
  }

  /** Frees what the library holds for the device; plans must be destroyed before. */
  @Override
  public void close() {
    destroy(destroy, handle, "cublasLtDestroy");
  }

  /** Factors of the product and of what y held, which cuBLASLt reads from host memory. */
  private static final class Scalars {
    static final MemorySegment ONE = Arena.global().allocateFrom(JAVA_FLOAT, 1f);
    static final MemorySegment ZERO = Arena.global().allocateFrom(JAVA_FLOAT, 0f);

    private Scalars() {}
  }
}
