package io.infinilora.gateway;

import io.infinilora.core.Engine;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TokenEvent;
import io.infinilora.wire.StreamEnd;
import io.infinilora.wire.StreamPart;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Executor;
import java.util.concurrent.Flow;
import java.util.function.Consumer;

/**
 * A generation that a base computes for a gateway. Asks the engine for as many events as the
 * gateway has credited, and keeps those that were not sent yet. Everything but the subscriber's
 * methods runs on the event loop of the {@link BaseService}.
 */
final class ServedStream implements Flow.Subscriber<TokenEvent> {
  private final long id;
  private final Optional<String> adapter;
  private final Executor loop;
  private final Consumer<ServedStream> news;
  private List<TokenEvent> pending = new ArrayList<>();
  private Flow.Subscription subscription;
  private StreamEnd failure;
  private long credit;
  private long requested;
  private long sent;
  private boolean over;

  /**
   * A stream that has not begun.
   *
   * @param id its number at the gateway
   * @param adapter what the request names
   * @param news called when there is something to {@link #take}
   */
  ServedStream(long id, Optional<String> adapter, Executor loop, Consumer<ServedStream> news) {
    this.id = id;
    this.adapter = adapter;
    this.loop = loop;
    this.news = news;
  }

  long id() {
    return id;
  }

  Optional<String> adapter() {
    return adapter;
  }

  void begin(Engine engine, GenerateRequest request, long firstCredit) {
    credit = firstCredit;
    try {
      engine.generate(request).subscribe(this);
    } catch (RuntimeException e) {
      fail(e);
    }
  }

  /** So many events may be sent in all; less than before is old news. */
  void credit(long total) {
    credit = Math.max(credit, total);
    ask();
  }

  private void ask() {
    if (subscription != null && !over && credit > requested) {
      long more = credit - requested;
      requested = credit;
      subscription.request(more);
    }
  }

  /** Ends it without a word. */
  void cancel() {
    over = true;
    if (subscription != null) {
      subscription.cancel();
    }
  }

  /** Ends it, unless it has ended, with a failure to be sent. */
  void fail(Throwable cause) {
    if (!over) {
      cancel();
      failure = StreamEnd.of(cause);
      news.accept(this);
    }
  }

  /** Whether nothing but what is to be taken will come. */
  boolean over() {
    return over;
  }

  /** Number of parts taken. */
  long sent() {
    return sent;
  }

  /** What has come up since the last time. */
  StreamPart take() {
    List<TokenEvent> events = pending;
    pending = new ArrayList<>();
    return Parts.pack(id, sent++, events, failure);
  }

  @Override
  public void onSubscribe(Flow.Subscription s) {
    loop.execute(
        () -> {
          subscription = s;
          if (over) {
            s.cancel();
          } else {
            ask();
          }
        });
  }

  @Override
  public void onNext(TokenEvent event) {
    loop.execute(
        () -> {
          if (!over) {
            pending.add(event);
            over = event instanceof TokenEvent.Finished;
            news.accept(this);
          }
        });
  }

  @Override
  public void onError(Throwable cause) {
    loop.execute(() -> fail(cause));
  }

  @Override
  public void onComplete() {
    loop.execute(
        () -> fail(new InfiniLoraException(ErrorCode.INTERNAL, "it ended without a reason")));
  }
}
