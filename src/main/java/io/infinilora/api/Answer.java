package io.infinilora.api;

import io.infinilora.core.FinishReason;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.TokenEvent;
import io.infinilora.metrics.RequestMetrics;
import io.infinilora.metrics.RequestMetrics.Outcome;
import io.smallrye.mutiny.Multi;
import io.vertx.core.Context;
import io.vertx.core.http.HttpServerResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Executor;
import java.util.concurrent.Flow;

/**
 * The answer to one request while it is being made: subscribes to a generation per choice and
 * passes their tokens, as text, to the writer. Everything here runs on the event loop of the
 * response.
 *
 * <p>Back-pressure: each choice asks for {@link #AHEAD} events and then for one more per event
 * written, but for none while the response's write queue is full, so a slow client holds at most
 * that many events per choice here. A client that goes away cancels all generations at once.
 */
final class Answer {
  /** Events per choice that may be under way between the engine's event loop and the response's. */
  static final int AHEAD = 16;

  private final ServedModel served;
  private final ApiRequest request;
  private final String id;
  private final Optional<String> adapter;
  private final HttpServerResponse response;
  private final AnswerWriter writer;
  private final RequestMetrics metrics;
  private final Runnable over;
  private final List<Choice> choices = new ArrayList<>();
  private int unfinished;
  private boolean ended;

  /**
   * Prepares an answer.
   *
   * @param over called once, when the answer is complete or given up
   */
  Answer(
      ServedModel served,
      ApiRequest request,
      String id,
      Optional<String> adapter,
      HttpServerResponse response,
      AnswerWriter writer,
      RequestMetrics metrics,
      Runnable over) {
    this.served = served;
    this.request = request;
    this.id = id;
    this.adapter = adapter;
    this.response = response;
    this.writer = writer;
    this.metrics = metrics;
    this.over = over;
  }

  /** Starts all generations. Called on {@code context}, the response's. */
  void start(Context context, List<EncodedPrompt> prompts) {
    Executor loop = task -> context.runOnContext(ignored -> task.run());
    response.closeHandler(ignored -> abandon());
    response.exceptionHandler(ignored -> abandon());
    response.drainHandler(ignored -> choices.forEach(Choice::resume));
    for (EncodedPrompt prompt : prompts) {
      for (int i = 0; i < request.n(); i++) {
        choices.add(new Choice(choices.size(), prompt, i));
      }
    }
    unfinished = choices.size();
    for (Choice choice : choices) {
      if (ended) {
        return;
      }
      choice.begin(loop);
    }
  }

  private void choiceFinished() {
    unfinished--;
    if (unfinished > 0) {
      return;
    }
    int prompt = 0;
    int cached = 0;
    int completion = 0;
    for (Choice choice : choices) {
      prompt += choice.copy == 0 ? choice.prompt.tokens().length : 0;
      cached += choice.copy == 0 ? choice.cached : 0;
      completion += choice.outputTokens;
    }
    end();
    writer.finish(new Usage(prompt, cached, completion));
  }

  private void fail(Throwable failure) {
    if (!ended) {
      end();
      writer.fail(ApiError.of(failure));
    }
  }

  private void abandon() {
    if (!ended) {
      end();
    }
  }

  /** Before the last write: whoever sees the whole answer also sees that the request is over. */
  private void end() {
    ended = true;
    choices.forEach(Choice::cancel);
    over.run();
  }

  /** One generation. */
  private final class Choice implements Flow.Subscriber<TokenEvent> {
    private final int index;
    private final EncodedPrompt prompt;
    private final int copy;
    private final ChoiceText text;
    private Executor loop;
    private RequestMetrics.Generation measured;
    private Flow.Subscription subscription;
    private boolean echoed;
    private int withheld;
    private boolean done;
    private int cached;
    private int outputTokens;

    Choice(int index, EncodedPrompt prompt, int copy) {
      this.index = index;
      this.prompt = prompt;
      this.copy = copy;
      this.text = new ChoiceText(served.tokenizer(), request.stop());
    }

    void begin(Executor responseLoop) {
      loop = responseLoop;
      measured = metrics.begin(adapter);
      boolean promptLogprobs = prompt.echo() != null && request.logprobs();
      Multi<TokenEvent> events;
      try {
        events =
            served
                .engine()
                .generate(
                    new GenerateRequest(
                        id + "-" + index,
                        prompt.tokens(),
                        adapter,
                        request.sampling().params(prompt.maxTokens(), copy),
                        promptLogprobs));
      } catch (RuntimeException e) {
        failed(e);
        return;
      }
      events.subscribe(this);
    }

    @Override
    public void onSubscribe(Flow.Subscription s) {
      // Another thread than the response's is possible, but then nothing else has happened yet.
      loop.execute(
          () -> {
            subscription = s;
            if (done) {
              s.cancel();
            } else {
              s.request(AHEAD);
            }
          });
    }

    @Override
    public void onNext(TokenEvent event) {
      loop.execute(() -> arrived(event));
    }

    @Override
    public void onError(Throwable failure) {
      loop.execute(() -> failed(failure));
    }

    @Override
    public void onComplete() {
      loop.execute(
          () -> failed(new IllegalStateException("generation " + id + " ended without a reason")));
    }

    private void arrived(TokenEvent event) {
      if (done) {
        return;
      }
      try {
        accept(event);
      } catch (RuntimeException e) {
        subscription.cancel();
        failed(e);
        return;
      }
      if (!done) {
        withheld++;
        resume();
      }
    }

    /** Asks for what was withheld, unless the client is still behind. */
    void resume() {
      if (withheld > 0 && !done && !writer.full()) {
        int events = withheld;
        withheld = 0;
        subscription.request(events);
      }
    }

    private void accept(TokenEvent event) {
      if (!echoed && prompt.echo() != null) {
        echoed = true;
        writer.piece(
            index,
            event instanceof TokenEvent.Prompt p
                ? text.echo(prompt.echo(), prompt.tokens(), p.logprobs())
                : text.echo(prompt.echo()));
      }
      switch (event) {
        case TokenEvent.Started ignored -> {} // Not asked for.
        case TokenEvent.Prompt ignored -> {}
        case TokenEvent.Token token -> {
          outputTokens++;
          measured.token();
          Piece piece = text.append(token);
          if (piece.finish() != null) {
            subscription.cancel();
          }
          write(piece);
        }
        case TokenEvent.Finished finished -> {
          cached = finished.cachedPromptTokens();
          write(text.finish(finished.reason()));
        }
      }
    }

    private void write(Piece piece) {
      writer.piece(index, piece);
      if (piece.finish() != null) {
        close(piece.finish() == FinishReason.STOP ? Outcome.STOP : Outcome.LENGTH);
        choiceFinished();
      }
    }

    private void failed(Throwable failure) {
      if (!done) {
        close(Outcome.ERROR);
        fail(failure);
      }
    }

    void cancel() {
      if (!done && measured != null) {
        if (subscription != null) {
          subscription.cancel();
        }
        close(Outcome.CANCELLED);
      }
    }

    private void close(Outcome outcome) {
      done = true;
      measured.end(outcome, prompt.tokens().length);
    }
  }
}
