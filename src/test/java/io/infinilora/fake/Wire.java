package io.infinilora.fake;

import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.net.NetClient;
import io.vertx.core.net.NetSocket;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;

/**
 * What connections go through that can be disturbed: it listens on {@link #HOST} and leads to the
 * same port of 127.0.0.1.
 */
public final class Wire {
  /** Another address of the loopback. */
  public static final String HOST = "127.0.0.2";

  private final Set<NetSocket> ends = ConcurrentHashMap.newKeySet();
  private final AtomicLong untilCut = new AtomicLong(Long.MAX_VALUE);
  private final AtomicLong cuts = new AtomicLong();
  private volatile boolean silent;

  /** Kept: one that is collected ends its connections. */
  private final NetClient clients;

  private Wire(Vertx vertx) {
    clients = vertx.createNetClient();
  }

  /** Listens in front of a port. */
  public static Future<Wire> before(Vertx vertx, int port) {
    Wire wire = new Wire(vertx);
    return vertx
        .createNetServer()
        .connectHandler(socket -> wire.connected(socket, port))
        .listen(port, HOST)
        .map(wire);
  }

  private void connected(NetSocket near, int port) {
    ends.add(near);
    near.pause();
    clients
        .connect(port, "127.0.0.1")
        .onSuccess(
            far -> {
              ends.add(far);
              pipe(near, far);
              pipe(far, near);
              near.resume();
            })
        .onFailure(e -> near.close());
  }

  private void pipe(NetSocket from, NetSocket to) {
    from.handler(bytes -> pass(bytes, to));
    from.closeHandler(
        v -> {
          ends.remove(from);
          to.close();
        });
  }

  private void pass(Buffer bytes, NetSocket to) {
    if (silent) {
      return;
    }
    long left = untilCut.addAndGet(-bytes.length());
    if (left > 0) {
      to.write(bytes);
      return;
    }
    // The last bytes still arrive, so that the cut is where it was asked for.
    untilCut.set(Long.MAX_VALUE);
    to.write(bytes.slice(0, (int) Math.max(0, bytes.length() + left))).onComplete(v -> cut());
  }

  /** Ends all connections. */
  public void cut() {
    cuts.incrementAndGet();
    Set.copyOf(ends).forEach(NetSocket::close);
  }

  /**
   * Ends all connections when so many more bytes have gone through, wherever in a frame that is.
   */
  public void cutAfter(long bytes) {
    untilCut.set(bytes);
  }

  /** How often connections were ended. */
  public long cuts() {
    return cuts.get();
  }

  /** Whether whatever is sent gets lost while connections stay. */
  public void silence(boolean now) {
    silent = now;
  }
}
