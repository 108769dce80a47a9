package io.infinilora.scheduler;

import io.infinilora.core.AdapterId;
import io.infinilora.core.GenerateRequest;
import java.util.Arrays;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;

/**
 * A request on its way through the scheduler: its tokens so far (prompt and output), how many of
 * them have keys and values in the cache, and the blocks that hold those. Everyone may read; only
 * the scheduler changes it.
 */
public final class Sequence {

  /** Where a sequence stands. */
  public enum State {
    /** In the queue, without blocks; either new or preempted. */
    WAITING,
    /** Admitted; may hold blocks. Gets no rows while its adapter is not ready. */
    RUNNING,
    /** Aborted while its step is in flight; leaves when the step does. */
    ABORTING,
    /** Finished, aborted or refused; holds nothing. */
    DONE
  }

  private final GenerateRequest request;
  private final Optional<AdapterId> adapter;
  private final Set<Integer> eosTokens;

  private int[] tokens;
  private int length;
  private int computed;
  private int maxLength = Integer.MAX_VALUE;
  private State state = State.WAITING;
  private int cachedPromptTokens = -1;
  private int overtaken;
  private int charged;
  private int failedSteps;

  private int[] blocks = new int[4];
  private int blockCount;
  private int publishedBlocks;
  private PrefixCache.Node lastPublished;

  /**
   * A sequence that holds the prompt and what was generated elsewhere. With the latter it stands as
   * if it had been preempted: it was admitted once, and its tokens have been charged for.
   *
   * @param request what was asked for
   * @param adapter generation of the adapter that computes it, or empty for the base model
   * @param eosTokens the model's end-of-sequence tokens
   */
  public Sequence(GenerateRequest request, Optional<AdapterId> adapter, Set<Integer> eosTokens) {
    this.request = Objects.requireNonNull(request);
    this.adapter = Objects.requireNonNull(adapter);
    this.eosTokens = Set.copyOf(eosTokens);
    int[] generated = request.generated();
    this.length = request.prompt().length + generated.length;
    this.tokens = Arrays.copyOf(request.prompt(), length);
    System.arraycopy(generated, 0, tokens, request.prompt().length, generated.length);
    if (generated.length > 0) {
      this.charged = length;
      this.cachedPromptTokens = 0;
    }
    request.started().ifPresent(started -> this.cachedPromptTokens = started.cachedPromptTokens());
  }

  /** The request's id. */
  public String id() {
    return request.id();
  }

  /** What was asked for. */
  public GenerateRequest request() {
    return request;
  }

  /** Generation of the adapter, or empty for the base model. */
  public Optional<AdapterId> adapter() {
    return adapter;
  }

  /** Whom its service is counted for: the adapter's name, or empty for the base model. */
  public Optional<String> tenant() {
    return request.adapter();
  }

  /** Where it stands. */
  public State state() {
    return state;
  }

  /** Number of prompt tokens. */
  public int promptLength() {
    return request.prompt().length;
  }

  /**
   * Number of output tokens so far, those generated elsewhere included; a stop token that ended the
   * sequence is not one.
   */
  public int outputLength() {
    return length - promptLength();
  }

  /** Number of prompt and output tokens. */
  public int length() {
    return length;
  }

  /** Token at a position of prompt and output. */
  public int token(int position) {
    return tokens[Objects.checkIndex(position, length)];
  }

  /** A copy of the tokens {@code from .. to - 1} of prompt and output. */
  public int[] tokens(int from, int to) {
    Objects.checkFromToIndex(from, to, length);
    return Arrays.copyOfRange(tokens, from, to);
  }

  /** Number of leading positions whose keys and values are in the cache. */
  public int computed() {
    return computed;
  }

  /** Prompt tokens found in the prefix cache at the first admission; 0 before it. */
  public int cachedPromptTokens() {
    return Math.max(0, cachedPromptTokens);
  }

  /** Whether it has run before; if it waits, it was preempted. */
  public boolean wasAdmitted() {
    return cachedPromptTokens >= 0;
  }

  /** How many that stood behind it were admitted while it could have been. */
  public int overtaken() {
    return overtaken;
  }

  /** Steps in a row that were given up with rows of this sequence; 0 after one that was not. */
  public int failedSteps() {
    return failedSteps;
  }

  /** A copy of the block table. */
  public int[] blockTable() {
    return Arrays.copyOf(blocks, blockCount);
  }

  /** Tokens whose keys and values are missing. */
  int pending() {
    return length - computed;
  }

  /** Length at which the sequence ends. */
  int maxLength() {
    return maxLength;
  }

  void limit(int newMaxLength) {
    maxLength = newMaxLength;
  }

  void state(State newState) {
    state = newState;
  }

  /** Whether this token ends the sequence without being part of the output. */
  boolean isStop(int token) {
    return (!request.sampling().ignoreEos() && eosTokens.contains(token))
        || request.sampling().stopTokens().contains(token);
  }

  void append(int token) {
    if (length == tokens.length) {
      tokens = Arrays.copyOf(tokens, Math.max(16, length + (length >> 1)));
    }
    tokens[length++] = token;
  }

  void computed(int newComputed) {
    computed = newComputed;
  }

  void countOvertaken() {
    overtaken++;
  }

  void stepFailed() {
    failedSteps++;
  }

  void stepCompleted() {
    failedSteps = 0;
  }

  /** Number of leading positions that the policy knows of as served. */
  int charged() {
    return charged;
  }

  void charged(int newCharged) {
    charged = newCharged;
  }

  /** Remembers the hit of the first admission; later ones (after a preemption) do not count. */
  void recordPrefixHit(int positions) {
    if (cachedPromptTokens < 0) {
      cachedPromptTokens = Math.min(positions, promptLength());
    }
  }

  int blockCount() {
    return blockCount;
  }

  int block(int index) {
    return blocks[Objects.checkIndex(index, blockCount)];
  }

  void addBlock(int block) {
    if (blockCount == blocks.length) {
      blocks = Arrays.copyOf(blocks, 2 * blockCount);
    }
    blocks[blockCount++] = block;
  }

  void replaceBlock(int index, int block) {
    blocks[Objects.checkIndex(index, blockCount)] = block;
  }

  int removeLastBlock() {
    return blocks[--blockCount];
  }

  /** How many leading blocks are published in the prefix cache. */
  int publishedBlocks() {
    return publishedBlocks;
  }

  /** Node of the last published block, or null. */
  PrefixCache.Node lastPublished() {
    return lastPublished;
  }

  void published(int count, PrefixCache.Node last) {
    publishedBlocks = count;
    lastPublished = last;
  }

  @Override
  public String toString() {
    return "%s[%s, %d+%d tokens, %d computed, %d blocks]"
        .formatted(id(), state, promptLength(), outputLength(), computed, blockCount);
  }
}
