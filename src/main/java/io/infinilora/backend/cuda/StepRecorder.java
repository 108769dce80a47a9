package io.infinilora.backend.cuda;

import io.infinilora.backend.BatchLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.VarHandle;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import jcuda.driver.CUgraph;
import jcuda.driver.CUgraphExec;
import jcuda.driver.CUresult;
import jcuda.driver.CUstreamCaptureMode;
import jcuda.driver.JCudaDriver;

/**
 * Records the launches of decode steps as CUDA graphs and replays them.
 *
 * <p>Steps are padded to buckets of rows, so that steps of one bucket make the same launches. All
 * that differs between them lies in one piece of device memory, the step's arena, at offsets that
 * follow from the order of the uploads. Each step's operators are first called without launching
 * anything, which fills the arena and yields a signature of every launch with its arguments. A
 * recording with this signature is replayed; if there is none, the first such step runs launch by
 * launch (which loads kernels and sizes scratch memory) and the second is recorded. A step with the
 * key of the one before makes the same launches with the same arena but for the batch, so its
 * operators are not called at all.
 *
 * <p>The stream's thread only.
 */
final class StepRecorder implements AutoCloseable {
  private static final long ARENA_BYTES = 8L << 20;
  private static final int ALIGNMENT = 16;

  /** What tables may take of the arena; the rest is for what operators upload. */
  private static final long MOST_TABLE_BYTES = ARENA_BYTES * 3 / 4;

  /** Of the batch's memory, which kernel {@code fetch_batch} knows: the number of the step. */
  private static final long STEP = 4;

  private static final int WORD_ELEMENTS = 4;
  private static final int FETCH_THREADS = 256;

  /** The number of the last step whose batch was fetched, behind the arena's host side. */
  private static final VarHandle FETCHED = ValueLayout.JAVA_INT.varHandle();

  /** Recordings that are kept; each takes about a megabyte of memory. */
  private static final int MAX_RECORDINGS = 128;

  /** What becomes of launches. */
  private enum Mode {
    /** No step: launched at once, nothing padded. */
    OFF,
    /** Padded, launched at once. */
    DIRECT,
    /** Given to the capturing stream. */
    RECORD,
    /** Counted, not launched. */
    STAGE
  }

  private final CudaStream stream;
  private final Set<Key> seen = new HashSet<>();
  private final Map<Key, CUgraphExec> recordings = new LinkedHashMap<>(16, 0.75f, true);
  private PinnedMemory host;
  private DeviceMemory arena;
  private Kernel fetch;

  /** The end of the last copy from the arena's host side. */
  private StreamMark sent;

  /** Whether that may be ahead. */
  private boolean copied;

  /** Recordings that were launched. */
  private int steps;

  private Mode mode = Mode.OFF;
  private StepBucket bucket;
  private int rows;
  private long offset;
  private long signature;

  /** The step whose arrays are in the arena, null if it was not run by a recording. */
  private Last last;

  /**
   * A step that was run by a recording.
   *
   * @param batch writes the batch of a repetition
   */
  private record Last(
      StepBucket bucket, int rows, Object key, CUgraphExec graph, BatchImage batch) {}

  /** A step's bucket, and the hash of its launches. */
  private record Key(StepBucket bucket, long signature) {}

  StepRecorder(CudaStream stream) {
    this.stream = stream;
  }

  /** Whether the arena has room for steps of a bucket. */
  static boolean holds(StepBucket bucket) {
    return (long) Integer.BYTES * bucket.rows() * bucket.tableStride() <= MOST_TABLE_BYTES;
  }

  /** Whether a step is under way whose arrays go to its arena. */
  boolean active() {
    return mode != Mode.OFF;
  }

  /** Whether operators are called without being launched. */
  boolean staging() {
    return mode == Mode.STAGE;
  }

  /** The present step's bucket, or null. */
  StepBucket bucket() {
    return mode == Mode.OFF ? null : bucket;
  }

  /** Rows to launch for so many rows of the step. */
  int padded(int count) {
    if (mode == Mode.OFF || count % rows != 0) {
      return count;
    }
    return count / rows * bucket.rows();
  }

  boolean announce(long hash) {
    signature = (signature ^ hash) * 0x94D049BB133111EBL + 1;
    return mode != Mode.STAGE;
  }

  /** Runs a step's operators in a bucket. */
  void run(StepBucket in, BatchLayout batch, Object stepKey, Runnable operators) {
    allocate();
    awaitArena();
    int stepRows = batch.rows();
    if (last != null
        && last.rows() == stepRows
        && last.bucket().equals(in)
        && last.key().equals(stepKey)) {
      last.batch().write(batch);
      launch(last.graph(), in);
      return;
    }
    last = null;
    perform(Mode.STAGE, in, stepRows, operators);
    Key key = new Key(in, signature);
    CUgraphExec graph = recordings.get(key);
    if (graph == null && seen.add(key)) {
      perform(Mode.DIRECT, in, stepRows, operators);
      return;
    }
    if (graph == null) {
      graph = record(key, stepRows, operators);
    }
    sendArena(Integer.BYTES * BatchParts.of(in).size());
    launch(graph, in);
    last =
        new Last(in, stepRows, stepKey, graph, new BatchImage(BatchParts.of(in), host.segment()));
  }

  /** Waits until the arena's host side has been read by the steps before. */
  private void awaitArena() {
    if (copied) {
      sent.await();
      copied = false;
    }
    if ((int) FETCHED.getAcquire(host.segment(), ARENA_BYTES) != steps) {
      stream.synchronize(); // Steps whose results nobody waited for.
    }
  }

  private void launch(CUgraphExec graph, StepBucket in) {
    host.segment().set(ValueLayout.JAVA_INT, STEP, ++steps);
    int status = JCudaDriver.cuGraphLaunch(graph, stream.stream());
    if (status != CUresult.CUDA_SUCCESS) {
      stream.device().check(status, "cuGraphLaunch(%s)".formatted(in));
    }
  }

  private CUgraphExec record(Key key, int stepRows, Runnable operators) {
    CudaDevice device = stream.device();
    CUgraph graph = new CUgraph();
    device.check(
        JCudaDriver.cuStreamBeginCapture(
            stream.stream(), CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
        "cuStreamBeginCapture");
    boolean complete = false;
    try {
      fetchBatch(key.bucket());
      perform(Mode.RECORD, key.bucket(), stepRows, operators);
      complete = true;
    } finally {
      int status = JCudaDriver.cuStreamEndCapture(stream.stream(), graph);
      if (complete) {
        device.check(status, "cuStreamEndCapture");
      }
    }
    CUgraphExec executable = new CUgraphExec();
    device.check(JCudaDriver.cuGraphInstantiate(executable, graph, 0), "cuGraphInstantiate");
    device.check(JCudaDriver.cuGraphDestroy(graph), "cuGraphDestroy");
    if (signature != key.signature()) {
      destroy(executable);
      throw new IllegalStateException("the operators of a step differ between two calls");
    }
    recordings.put(key, executable);
    dropOldest();
    return executable;
  }

  private void dropOldest() {
    if (recordings.size() > MAX_RECORDINGS) {
      stream.synchronize();
      Iterator<CUgraphExec> oldest = recordings.values().iterator();
      destroy(oldest.next());
      oldest.remove();
    }
  }

  private void perform(Mode how, StepBucket in, int stepRows, Runnable operators) {
    bucket = in;
    rows = stepRows;
    offset = 0;
    signature = 0;
    mode = how;
    try {
      operators.run();
    } finally {
      mode = Mode.OFF;
    }
  }

  private void allocate() {
    if (arena == null) {
      host = stream.device().pinned(ARENA_BYTES + ALIGNMENT);
      arena = stream.device().allocate(ARENA_BYTES + ALIGNMENT, "workspace");
      fetch = stream.device().kernel("batch", "fetch_batch");
      sent = new StreamMark(stream);
    }
  }

  long reserve(long bytes) {
    long at = offset;
    offset += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (offset > ARENA_BYTES) {
      throw new IllegalStateException(
          "the arrays of a step of %d rows take more than %d bytes".formatted(rows, ARENA_BYTES));
    }
    return at;
  }

  MemorySegment host(long at, long bytes) {
    return host.segment().asSlice(at, bytes);
  }

  long send(long at, long bytes) {
    if (mode == Mode.DIRECT) {
      stream.copyToDevice(host.address() + at, arena.address() + at, bytes);
      mark();
    }
    return arena.address() + at;
  }

  /** Copies what was staged, but for the batch, which the recording fetches. */
  private void sendArena(long batchBytes) {
    if (offset > batchBytes) {
      stream.copyToDevice(
          host.address() + batchBytes, arena.address() + batchBytes, offset - batchBytes);
      mark();
    }
  }

  private void mark() {
    sent.record();
    copied = true;
  }

  /** The first kernel of a recording: brings the batch to the device. */
  private void fetchBatch(StepBucket in) {
    int words = BatchParts.of(in).size() / WORD_ELEMENTS;
    stream
        .launch(fetch)
        .pointer(host.address())
        .pointer(arena.address())
        .int32(words)
        .pointer(arena.address() + ARENA_BYTES)
        .pointer(host.address() + ARENA_BYTES)
        .grid(Math.ceilDiv(words, FETCH_THREADS))
        .block(FETCH_THREADS)
        .goFenced();
  }

  /** Drops all recordings: memory that they name is about to go. */
  void forget() {
    if (mode == Mode.RECORD) {
      throw new IllegalStateException("memory grew while a step was recorded");
    }
    if (!recordings.isEmpty()) {
      stream.synchronize();
    }
    recordings.values().forEach(this::destroy);
    recordings.clear();
  }

  private void destroy(CUgraphExec graph) {
    last = null;
    stream.device().check(JCudaDriver.cuGraphExecDestroy(graph), "cuGraphExecDestroy");
  }

  @Override
  public void close() {
    forget();
    if (arena != null) {
      sent.close();
      arena.close();
      host.close();
    }
  }
}
