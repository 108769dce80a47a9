package io.infinilora.wire;

import io.vertx.core.Vertx;
import io.vertx.core.shareddata.LocalMap;
import io.vertx.core.shareddata.Shareable;
import java.util.List;
import java.util.UUID;

/**
 * A shard of the LoRA Server begins, serves, hangs or ends. One that begins has no adapters and
 * knows no leases; one that hangs grants leases again when it does not any more. While it serves it
 * says so once a second, for those who come later or missed it.
 *
 * @param shard its index
 * @param incarnation differs each time a shard begins
 * @param startedMillis when it began, in milliseconds since 1970; of two incarnations the later
 *     counts
 * @param frames where it takes frames; null if it can be reached in its own process only
 * @param serving whether it serves; false if it has ended
 */
public record ShardNotice(
    int shard, UUID incarnation, long startedMillis, FrameAddress frames, boolean serving)
    implements Shareable {

  private static final String HERE = "infinilora.lora.shards";

  /** The same shard, ended. */
  public ShardNotice ended() {
    return new ShardNotice(shard, incarnation, startedMillis, frames, false);
  }

  /** The shards that serve in this process, by incarnation. */
  private static LocalMap<String, ShardNotice> here(Vertx vertx) {
    return vertx.sharedData().getLocalMap(HERE);
  }

  /** The shards that serve in this process. */
  public static List<ShardNotice> local(Vertx vertx) {
    return List.copyOf(here(vertx).values());
  }

  /** Whether it serves in this process. */
  public boolean isLocal(Vertx vertx) {
    return here(vertx).containsKey(incarnation.toString());
  }

  /** Lets this process know that it serves here. */
  public void enter(Vertx vertx) {
    here(vertx).put(incarnation.toString(), this);
  }

  /** Takes back what {@link #enter} said. */
  public void leave(Vertx vertx) {
    here(vertx).remove(incarnation.toString());
  }
}
