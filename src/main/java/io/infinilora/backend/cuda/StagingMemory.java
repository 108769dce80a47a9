package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.FutureTask;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.LongFunction;

/**
 * Page-locked host memory in equal parts, one for each thread that copies. A thread of its own asks
 * the driver for all of it at once, which takes half a millisecond per MiB. Thread-safe.
 */
final class StagingMemory implements AutoCloseable {
  private final long partBytes;
  private final FutureTask<PinnedMemory> memory;
  private final AtomicInteger taken = new AtomicInteger();

  /**
   * Begins to make it.
   *
   * @param driver gives so many bytes
   */
  StagingMemory(LongFunction<PinnedMemory> driver, int parts, long partBytes) {
    this.partBytes = partBytes;
    memory = new FutureTask<>(() -> driver.apply(parts * partBytes));
    Thread.ofPlatform().daemon().name("uploader-memory").start(memory);
  }

  /**
   * A part that nobody has taken yet; waits until it is there.
   *
   * @throws CudaException if the driver has none
   */
  MemorySegment take() {
    return get().segment().asSlice(taken.getAndIncrement() * partBytes, partBytes);
  }

  private PinnedMemory get() {
    try {
      return memory.get();
    } catch (ExecutionException e) {
      throw e.getCause() instanceof RuntimeException cause
          ? cause
          : new IllegalStateException(e.getCause());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted while page-locked memory is made", e);
    }
  }

  /**
   * Frees it; no stream may use it any more. Waits until it is there: the device, which is closed
   * after this, must not be asked for it later.
   */
  @Override
  public void close() {
    boolean interrupted = false;
    while (!memory.isDone()) {
      try {
        memory.get();
      } catch (ExecutionException e) {
        // Then there is none to free, and whoever took it was told.
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
    if (memory.state() == Future.State.SUCCESS) {
      memory.resultNow().close();
    }
  }
}
