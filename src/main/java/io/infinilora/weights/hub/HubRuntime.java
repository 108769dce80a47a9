package io.infinilora.weights.hub;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.InstantSource;

/**
 * What downloads take from the machine.
 *
 * @param pause waits between tries
 * @param clock against which a server's dates are read
 * @param patience how long a body that has begun may be silent
 * @param space bytes that can be written below a directory
 */
record HubRuntime(Backoff.Pause pause, InstantSource clock, Duration patience, Space space) {

  /** The real machine. */
  static final HubRuntime REAL =
      new HubRuntime(
          Thread::sleep,
          InstantSource.system(),
          Duration.ofSeconds(60),
          directory -> Files.getFileStore(directory).getUsableSpace());

  /** Tells how much room is left. */
  interface Space {
    long free(Path directory) throws IOException;
  }
}
