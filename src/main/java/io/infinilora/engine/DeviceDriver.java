package io.infinilora.engine;

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * One plain platform thread that drives a device. Event loops hand it work and never wait for it; a
 * CUDA context or a CPU worker pool belongs to this thread alone.
 */
final class DeviceDriver implements AutoCloseable {
  private final BlockingQueue<Runnable> queue = new LinkedBlockingQueue<>();
  private final Thread thread;
  private volatile boolean closed;

  /** Starts the thread. */
  DeviceDriver(String name) {
    thread = Thread.ofPlatform().name(name).daemon().start(this::run);
  }

  /** Queues work, which must handle its own failures; any thread, never blocks. */
  void submit(Runnable work) {
    queue.add(work);
  }

  private void run() {
    while (!closed) {
      try {
        queue.take().run();
      } catch (InterruptedException e) {
        return; // close() interrupts.
      }
    }
  }

  /** Ends the thread after the work at hand. Blocks; not for event loops. */
  @Override
  public void close() {
    closed = true;
    queue.add(() -> {}); // Wakes the thread without interrupting a step.
    try {
      thread.join();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
