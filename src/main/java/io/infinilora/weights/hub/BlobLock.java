package io.infinilora.weights.hub;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Exclusive right to download one blob, among threads and among processes. The file stays behind:
 * to delete it would let two holders in.
 */
final class BlobLock implements AutoCloseable {
  /** Locks of the operating system belong to a process, so that threads need their own. */
  private static final Map<Path, ReentrantLock> THREADS = new ConcurrentHashMap<>();

  private final ReentrantLock thread;
  private final FileChannel channel;

  private BlobLock(ReentrantLock thread, FileChannel channel) {
    this.thread = thread;
    this.channel = channel;
  }

  /**
   * Waits for the lock. It must be closed on the same thread.
   *
   * @param waiting run once if the lock is held elsewhere
   * @throws IOException if the lock file cannot be used
   */
  static BlobLock take(Path file, Runnable waiting) throws IOException, InterruptedException {
    ReentrantLock thread =
        THREADS.computeIfAbsent(file.toAbsolutePath().normalize(), path -> new ReentrantLock());
    boolean told = false;
    if (!thread.tryLock()) {
      told = true;
      waiting.run();
      thread.lockInterruptibly();
    }
    FileChannel channel = null;
    try {
      Files.createDirectories(file.getParent());
      channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE);
      FileLock lock = channel.tryLock();
      if (lock == null) {
        if (!told) {
          waiting.run();
        }
        channel.lock();
      }
      return new BlobLock(thread, channel);
    } catch (IOException | RuntimeException e) {
      if (channel != null) {
        channel.close();
      }
      thread.unlock();
      throw e;
    }
  }

  @Override
  public void close() throws IOException {
    try {
      channel.close();
    } finally {
      thread.unlock();
    }
  }
}
