package io.infinilora.wire;

import java.time.Duration;
import java.util.UUID;

/**
 * Which incarnation of a shard counts, from its notices: the one that has begun last, unless it has
 * ended or has not been heard of for some time, as when its process has died and the clock of the
 * next one's machine is behind.
 */
public final class ShardWatch {
  /** Several notices. */
  private static final Duration SILENCE = Duration.ofSeconds(5);

  private ShardNotice current;
  private UUID lastEnded;
  private long heardNanos;

  /** What a notice means. */
  public enum News {
    /** Nothing. */
    KNOWN,
    /** Another incarnation than before counts. */
    BEGUN,
    /** The one that counted has ended. */
    ENDED
  }

  /** Takes a notice in. */
  public News heard(ShardNotice notice, long nowNanos) {
    boolean same = current != null && current.incarnation().equals(notice.incarnation());
    if (!notice.serving()) {
      lastEnded = notice.incarnation();
      if (same) {
        current = null;
      }
      return same ? News.ENDED : News.KNOWN;
    }
    if (same) {
      heardNanos = nowNanos;
      return News.KNOWN;
    }
    boolean older = current != null && notice.startedMillis() < current.startedMillis();
    if (notice.incarnation().equals(lastEnded) || (older && !isSilent(nowNanos))) {
      return News.KNOWN;
    }
    current = notice;
    heardNanos = nowNanos;
    return News.BEGUN;
  }

  /** Whether the incarnation that counts has not been heard of for some time. */
  public boolean isSilent(long nowNanos) {
    return current != null && nowNanos - heardNanos >= SILENCE.toNanos();
  }

  /** The incarnation that counts, or null. */
  public ShardNotice current() {
    return current;
  }
}
