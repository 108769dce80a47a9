package io.infinilora.engine;

import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Signal;
import io.infinilora.backend.Tensor;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.wire.frames.FrameConnection;
import io.infinilora.wire.frames.FrameHeader;
import io.infinilora.wire.frames.FrameLayout;
import io.infinilora.wire.frames.FrameType;
import io.netty.buffer.ByteBuf;
import java.util.List;

/**
 * The base model's side of a shard in another process during one step. Rows go from the model's
 * tensors into the frame that is sent, and from the payload that has come to where they are added.
 * Driver thread only.
 */
final class FramePort extends ShardPort {
  private final FrameMemory memory;
  private final FrameLayout layout;
  private final FrameConnection connection;
  private final FrameEpoch epoch;

  FramePort(
      FrameMemory memory,
      FrameConnection connection,
      FrameEpoch epoch,
      ShardStep step,
      OpStream ops) {
    super(memory.spec(), memory.shard(), step, ops);
    this.memory = memory;
    this.layout = memory.layout();
    this.connection = connection;
    this.epoch = epoch;
  }

  private int rows() {
    return step.rows().length;
  }

  @Override
  public void publish(int layer, LoraSite site, Tensor x) {
    publishRouted(layer, site, x, null);
  }

  @Override
  public void publishRouted(int layer, LoraSite site, Tensor x, Routing routing) {
    if (!takesPart(layer, site)) {
      return;
    }
    int bytes = layout.activationBytes(site, step.sites(), rows());
    ByteBuf frame =
        connection.frame(
            new FrameHeader(
                FrameType.ACTIVATIONS, epoch.number(), step.id(), layer, site, rows(), bytes));
    try {
      if (layout.carriesRouting(site, step.sites())) {
        ops.packRouting(
            routing, step.rows(), FrameConnection.room(frame, layout.routingBytes(rows())));
      }
      ops.packRows(x, inRows(site), FrameConnection.room(frame, layout.rowBytes(site, rows())));
    } catch (RuntimeException | Error e) {
      frame.release();
      throw e;
    }
    connection.send(frame);
  }

  @Override
  protected void add(LoraSite site, Tensor... outs) {
    ByteBuf payload = take(site);
    try {
      List<LoraTarget> targets = site.targets();
      for (int i = 0; i < outs.length; i++) {
        LoraTarget target = targets.get(i);
        if (step.targets().contains(target)) {
          ops.addRows(
              FrameConnection.part(payload, layout.deltaBytes(target, rows())),
              outRows(target),
              outs[i]);
        }
      }
    } finally {
      payload.release();
    }
  }

  @Override
  Tensor downTerms() {
    ByteBuf payload = take(LoraSite.MLP_OUT);
    try {
      int bytes = layout.deltaBytes(LoraTarget.DOWN, rows());
      Tensor terms = memory.terms(rows());
      ops.unpackRows(FrameConnection.part(payload, bytes), terms);
      return terms;
    } finally {
      payload.release();
    }
  }

  private ByteBuf take(LoraSite site) {
    ByteBuf payload = epoch.take(site);
    if (payload == null) { // The connection has ended since it came.
      InfiniLoraException gone = closedBy();
      throw LoraSideException.of(
          gone != null
              ? gone
              : new InfiniLoraException(ErrorCode.INTERNAL, "the deltas of " + site + " are gone"));
    }
    return payload;
  }

  @Override
  protected Signal computed() {
    return memory.computed();
  }

  @Override
  protected InfiniLoraException closedBy() {
    return epoch.closedBy();
  }

  @Override
  protected Throwable failure() {
    return epoch.failureOf(step.id());
  }
}
