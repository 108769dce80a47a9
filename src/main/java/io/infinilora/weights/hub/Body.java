package io.infinilora.weights.hub;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Flow;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * The body of a response, taken piece by piece on the thread that reads. Unlike an input stream of
 * the JDK's client it notices that a server has fallen silent.
 */
final class Body implements Flow.Subscriber<List<ByteBuffer>>, AutoCloseable {

  /** What the client delivers: content, the end (neither), or a failure. */
  private record Event(List<ByteBuffer> content, Throwable failure) {}

  private final BlockingQueue<Event> events = new LinkedBlockingQueue<>();
  private final Duration patience;
  private volatile Flow.Subscription subscription;

  private Body(Duration patience) {
    this.patience = patience;
  }

  /** Subscribes to a body, which must be closed. */
  static Body of(Flow.Publisher<List<ByteBuffer>> publisher, Duration patience) {
    Body body = new Body(patience);
    publisher.subscribe(body);
    return body;
  }

  /**
   * The next piece, or an empty list at the end.
   *
   * @throws IOException if the connection breaks or nothing arrives for too long
   */
  List<ByteBuffer> next() throws IOException, InterruptedException {
    subscription.request(1);
    Event event = events.poll(patience.toMillis(), TimeUnit.MILLISECONDS);
    if (event == null) {
      throw new IOException("nothing arrived for " + patience.toSeconds() + " s");
    }
    if (event.failure() != null) {
      throw new IOException(event.failure().getMessage(), event.failure());
    }
    return event.content();
  }

  /**
   * The whole body.
   *
   * @throws IOException also if it is larger than {@code limit} bytes
   */
  byte[] all(int limit) throws IOException, InterruptedException {
    ByteArrayOutputStream whole = new ByteArrayOutputStream();
    for (List<ByteBuffer> piece = next(); !piece.isEmpty(); piece = next()) {
      for (ByteBuffer buffer : piece) {
        if (buffer.remaining() > limit - whole.size()) {
          throw new IOException("the answer is larger than " + limit + " bytes");
        }
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        whole.writeBytes(bytes);
      }
    }
    return whole.toByteArray();
  }

  @Override
  public void onSubscribe(Flow.Subscription given) {
    subscription = given;
  }

  @Override
  public void onNext(List<ByteBuffer> content) {
    events.add(new Event(content, null));
  }

  @Override
  public void onError(Throwable failure) {
    events.add(new Event(List.of(), failure));
  }

  @Override
  public void onComplete() {
    events.add(new Event(List.of(), null));
  }

  /** Closes the connection unless the body has been read to its end. */
  @Override
  public void close() {
    subscription.cancel();
  }
}
