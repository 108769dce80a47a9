package io.infinilora.backend.cuda;

import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Rows and routing between tensors and the payloads of frames. The stream's thread only. */
final class TransferOps implements AutoCloseable {
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;

  /** Bytes of an element of a packed row. */
  private static final int ROW_ELEMENT_BYTES = 2;

  private final CudaStream stream;
  private final CudaChecks checks;
  private final RowOps rows;
  private final HostResults results;

  /** Of its own: payloads are large beside what operators upload otherwise. */
  private final UploadRing payloads;

  private final Kernel packRows;
  private final Kernel unpackRows;
  private final Kernel addRows;

  TransferOps(CudaStream stream, CudaChecks checks, RowOps rows, HostResults results) {
    this.stream = stream;
    this.checks = checks;
    this.rows = rows;
    this.results = results;
    payloads = new UploadRing(stream);
    CudaDevice device = stream.device();
    packRows = device.kernel("rows", "pack_rows");
    unpackRows = device.kernel("rows", "unpack_rows");
    addRows = device.kernel("rows", "add_rows");
  }

  private static long rowBytes(int count, CudaTensor shape) {
    return (long) ROW_ELEMENT_BYTES * count * shape.cols();
  }

  /** Bytes of the choices, or of the weights, of so many rows. */
  private static long routingBytes(int count, CudaRouting shape) {
    return (long) Integer.BYTES * count * shape.topK();
  }

  /** Copies a payload to the device; when this returns it may be given back. */
  private long upload(MemorySegment payload, long bytes) {
    long at = payloads.reserve(bytes);
    payloads.host(at, bytes).copyFrom(payload.asSlice(0, bytes));
    return payloads.send(at, bytes);
  }

  /** See {@link io.infinilora.backend.OpStream#packRows}. */
  void packRows(Tensor x, int[] chosen, MemorySegment out) {
    CudaTensor from = checks.tensor(x, "packRows x");
    checks.rowsBelow(chosen, from.rows());
    long bytes = rowBytes(chosen.length, from);
    checks.memory(out, bytes, "packRows out");
    if (bytes == 0) {
      return;
    }
    long address = results.reserve(bytes);
    long indices = stream.upload(chosen, 0, chosen.length, chosen.length);
    stream
        .launch(packRows)
        .tensor(from)
        .pointer(indices)
        .int32(chosen.length)
        .int32(from.cols())
        .pointer(address)
        .grid(RowOps.blocks(chosen.length, RowOps.vectors(from)))
        .block(RowOps.THREADS)
        .dependent()
        .go();
    MemorySegment.copy(results.await(), 0, out, 0, bytes);
  }

  /** See {@link io.infinilora.backend.OpStream#unpackRows}. */
  void unpackRows(MemorySegment x, Tensor out) {
    CudaTensor to = checks.tensor(out, "unpackRows out");
    long bytes = rowBytes(to.rows(), to);
    checks.memory(x, bytes, "unpackRows x");
    if (bytes == 0) {
      return;
    }
    long packed = upload(x, bytes);
    stream
        .launch(unpackRows)
        .pointer(packed)
        .int32(to.rows())
        .int32(to.cols())
        .tensor(to)
        .grid(RowOps.blocks(to.rows(), RowOps.vectors(to)))
        .block(RowOps.THREADS)
        .dependent()
        .go();
  }

  /** See {@link io.infinilora.backend.OpStream#addRows}. */
  void addRows(MemorySegment x, int[] chosen, Tensor y) {
    CudaTensor to = checks.tensor(y, "addRows y");
    checks.rowsBelow(chosen, to.rows());
    long bytes = rowBytes(chosen.length, to);
    checks.memory(x, bytes, "addRows x");
    if (bytes == 0) {
      return;
    }
    long packed = upload(x, bytes);
    long indices = stream.upload(chosen, 0, chosen.length, chosen.length);
    stream
        .launch(addRows)
        .pointer(packed)
        .pointer(indices)
        .int32(chosen.length)
        .int32(to.cols())
        .tensor(to)
        .grid(RowOps.blocks(chosen.length, RowOps.vectors(to)))
        .block(RowOps.THREADS)
        .dependent()
        .go();
  }

  /** See {@link io.infinilora.backend.OpStream#packRouting}. */
  void packRouting(Routing from, int[] chosen, MemorySegment out) {
    CudaRouting source = checks.routing(from, "packRouting from");
    checks.rowsBelow(chosen, source.rows());
    long bytes = routingBytes(chosen.length, source);
    checks.memory(out, 2 * bytes, "packRouting out");
    if (bytes == 0) {
      return;
    }
    long address = results.reserve(2 * bytes);
    rows.launchGatherRouting(
        source.choices(),
        source.weights(),
        stream.upload(chosen, 0, chosen.length, chosen.length),
        chosen.length,
        source.topK(),
        address,
        address + bytes);
    MemorySegment.copy(results.await(), 0, out, 0, 2 * bytes);
  }

  /** See {@link io.infinilora.backend.OpStream#unpackRouting}. */
  void unpackRouting(MemorySegment from, Routing out) {
    CudaRouting to = checks.routing(out, "unpackRouting out");
    long bytes = routingBytes(to.rows(), to);
    checks.memory(from, 2 * bytes, "unpackRouting from");
    for (long at = 0; at < bytes; at += Integer.BYTES) {
      int expert = from.get(INT, at);
      checks.that(
          expert >= 0 && expert < to.experts(), () -> "expert " + expert + " of " + to.experts());
    }
    if (bytes > 0) {
      long packed = upload(from, 2 * bytes);
      rows.launchGatherRouting(
          packed, packed + bytes, 0, to.rows(), to.topK(), to.choices(), to.weights());
    }
    to.plan().madeFor(-1);
  }

  @Override
  public void close() {
    payloads.close();
  }
}
