package io.infinilora.cluster;

import io.infinilora.config.ClusterConfig;
import io.infinilora.config.HostPort;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.UnknownHostException;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;

/**
 * Keeps processes that start together from beginning a cluster each: a process waits a while for
 * one of its peers to listen, and joins anew if it has found itself alone though a peer is there.
 * Blocks; one thread.
 */
final class PeerSearch {
  /** How long a process waits for a peer before it takes itself for the first. */
  private static final long PATIENCE_MILLIS = 5_000;

  private static final int CONNECT_MILLIS = 500;
  private static final long POLL_MILLIS = 200;
  private static final int MOST_TRIES = 8;
  private static final int LEAST_PAUSE_MILLIS = 100;
  private static final int MOST_PAUSE_MILLIS = 1_500;

  private final ClusterConfig config;
  private int tries;

  PeerSearch(ClusterConfig config) {
    this.config = config;
  }

  /** Waits for a peer, if there is to be one. */
  void await() {
    long deadline = System.nanoTime() + PATIENCE_MILLIS * 1_000_000;
    while (!peers().isEmpty() && !isAnyThere() && System.nanoTime() - deadline < 0) {
      sleep(POLL_MILLIS);
    }
  }

  /** Whether a process that is alone should join anew. */
  boolean goesOn() {
    return ++tries < MOST_TRIES && isAnyThere();
  }

  /** Waits for a moment that peers in the same position are unlikely to choose. */
  void pause() {
    sleep(ThreadLocalRandom.current().nextInt(LEAST_PAUSE_MILLIS, MOST_PAUSE_MILLIS));
  }

  private boolean isAnyThere() {
    return peers().stream().anyMatch(PeerSearch::listens);
  }

  private List<InetSocketAddress> peers() {
    InetSocketAddress own = address(config.host(), config.port());
    List<InetSocketAddress> all =
        config.dns().isPresent()
            ? resolved(config.dns().get())
            : config.peers().stream().map(PeerSearch::address).toList();
    return all.stream().filter(peer -> !peer.equals(own)).toList();
  }

  private List<InetSocketAddress> resolved(String name) {
    try {
      return Arrays.stream(InetAddress.getAllByName(name))
          .map(address -> new InetSocketAddress(address, config.port()))
          .toList();
    } catch (UnknownHostException e) {
      return List.of(); // No process is registered yet.
    }
  }

  private static InetSocketAddress address(HostPort place) {
    return address(place.host(), place.port());
  }

  private static InetSocketAddress address(String host, int port) {
    return new InetSocketAddress(JGroupsStack.bare(host), port);
  }

  private static boolean listens(InetSocketAddress peer) {
    try (Socket socket = new Socket()) {
      socket.connect(peer, CONNECT_MILLIS);
      return true;
    } catch (IOException e) {
      return false;
    }
  }

  private static void sleep(long millis) {
    try {
      Thread.sleep(millis);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
