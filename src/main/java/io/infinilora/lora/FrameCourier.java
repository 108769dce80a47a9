package io.infinilora.lora;

import io.infinilora.backend.OpStream;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.wire.LoraCourier;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.LoraStep;
import io.infinilora.wire.frames.FrameConnection;
import io.infinilora.wire.frames.FrameHeader;
import io.infinilora.wire.frames.FrameLayout;
import io.infinilora.wire.frames.FrameType;
import io.infinilora.wire.frames.PayloadSlots;
import io.infinilora.wire.frames.Trouble;
import io.netty.buffer.ByteBuf;
import java.util.Arrays;

/**
 * Joins an exchange with a base model at the other end of a connection, for one epoch. Payloads are
 * put in on the connection's event loop; the rest is for the driver thread.
 */
final class FrameCourier implements LoraCourier {
  private final FrameConnection connection;
  private final FrameLayout layout;
  private final int epoch;
  private final PayloadSlots slots = new PayloadSlots();

  FrameCourier(FrameConnection connection, FrameLayout layout, int epoch) {
    this.connection = connection;
    this.layout = layout;
    this.epoch = epoch;
  }

  /** Activations of a site have come and were checked. */
  void put(LoraSite site, ByteBuf payload) {
    slots.put(site, payload);
  }

  /** The epoch is over: releases what has come. */
  void close() {
    slots.close();
  }

  @Override
  public void fetch(LoraStep step, int layer, LoraSite site, OpStream ops) {
    LoraExchange exchange = step.exchange();
    ByteBuf payload = slots.take(site);
    if (payload == null) {
      throw new InfiniLoraException(
          ErrorCode.UNAVAILABLE, "the connection with the base model has ended");
    }
    try {
      int rows = step.rows();
      if (layout.carriesRouting(site, step.sites())) {
        ops.unpackRouting(
            FrameConnection.part(payload, layout.routingBytes(rows)), exchange.routing(rows));
      }
      ops.unpackRows(
          FrameConnection.part(payload, layout.rowBytes(site, rows)),
          exchange.activations(site, rows));
    } finally {
      payload.release();
    }
  }

  @Override
  public void deliver(LoraStep step, int layer, LoraSite site, OpStream ops) {
    int rows = step.rows();
    int bytes = layout.deltaBytes(site, step.targets(), rows);
    ByteBuf frame =
        connection.frame(
            new FrameHeader(FrameType.DELTAS, epoch, step.id(), layer, site, rows, bytes));
    try {
      for (LoraTarget target : site.targets()) {
        if (step.targets().contains(target)) {
          int[] all = new int[rows * step.exchange().outRows(target)];
          Arrays.setAll(all, i -> i);
          ops.packRows(
              step.exchange().delta(target, rows),
              all,
              FrameConnection.room(frame, layout.deltaBytes(target, rows)));
        }
      }
    } catch (RuntimeException | Error e) {
      frame.release();
      throw e;
    }
    connection.send(frame);
  }

  @Override
  public void failed(long step, Throwable cause) {
    connection.send(Trouble.of(cause).frame(connection, FrameType.FAILURE, epoch, step));
  }
}
