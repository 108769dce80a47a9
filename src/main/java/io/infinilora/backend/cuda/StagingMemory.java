package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.LongFunction;

/**
 * Page-locked host memory in equal parts, one for each thread that copies. A thread of its own asks
 * the driver for all of it at once, which takes half a millisecond per MiB. Thread-safe.
 */
final class StagingMemory implements AutoCloseable {
  private final long partBytes;
  private final CompletableFuture<PinnedMemory> memory;
  private final AtomicInteger taken = new AtomicInteger();

  /**
   * Begins to make it.
   *
   * @param driver gives so many bytes
   */
  StagingMemory(LongFunction<PinnedMemory> driver, int parts, long partBytes) {
    this.partBytes = partBytes;
    memory =
        CompletableFuture.supplyAsync(
            () -> driver.apply(parts * partBytes),
            Thread.ofPlatform().daemon().name("uploader-memory")::start);
  }

  /**
   * A part that nobody has taken yet; waits until it is there.
   *
   * @throws CudaException if the driver has none
   */
  MemorySegment take() {
    try {
      return memory.join().segment().asSlice(taken.getAndIncrement() * partBytes, partBytes);
    } catch (CompletionException e) {
      throw e.getCause() instanceof RuntimeException cause ? cause : e;
    }
  }

  /**
   * Frees it; no stream may use it any more. Waits until it is there: the device, which is closed
   * after this, must not be asked for it later.
   */
  @Override
  public void close() {
    // If the driver had none, whoever took it was told.
    memory.exceptionally(failed -> null).thenAccept(StagingMemory::free).join();
  }

  private static void free(PinnedMemory memory) {
    if (memory != null) {
      memory.close();
    }
  }
}
