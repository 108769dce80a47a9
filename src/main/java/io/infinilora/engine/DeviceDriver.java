package io.infinilora.engine;

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One plain platform thread that drives a device. Event loops hand it work and never wait for it; a
 * CUDA context or a CPU worker pool belongs to this thread alone.
 */
final class DeviceDriver implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(DeviceDriver.class);

  private final BlockingQueue<Runnable> queue = new LinkedBlockingQueue<>();
  private final Thread thread;
  private volatile boolean closed;

  /** Starts the thread. */
  DeviceDriver(String name) {
    thread = Thread.ofPlatform().name(name).daemon().start(this::run);
  }

  /**
   * Queues work, which should handle its own failures: one that it throws is logged, and what was
   * queued after it goes on. Any thread, never blocks.
   */
  void submit(Runnable work) {
    queue.add(work);
  }

  private void run() {
    while (!closed) {
      try {
        queue.take().run();
      } catch (InterruptedException e) {
        return;
      } catch (RuntimeException | Error e) {
        log.error("a task of the device's driver failed", e);
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
