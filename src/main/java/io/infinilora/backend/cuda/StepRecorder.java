package io.infinilora.backend.cuda;

import io.infinilora.backend.BatchLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
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
  private StreamMark sent;
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
   * @param batch room for the batch of a repetition
   */
  private record Last(StepBucket bucket, int rows, Object key, CUgraphExec graph, int[] batch) {}

  /** A step's bucket, and the hash of its launches. */
  private record Key(StepBucket bucket, long signature) {}

  StepRecorder(CudaStream stream) {
    this.stream = stream;
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
    sent.await(); // The arena's host side is about to be overwritten.
    int stepRows = batch.rows();
    if (last != null
        && last.rows() == stepRows
        && last.bucket().equals(in)
        && last.key().equals(stepKey)) {
      repeat(batch);
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
    sendArena();
    launch(graph, in);
    last = new Last(in, stepRows, stepKey, graph, new int[BatchUploads.size(in)]);
  }

  /** Runs the last step again, with another batch. */
  private void repeat(BatchLayout batch) {
    int[] values = last.batch();
    BatchUploads.fill(last.bucket(), batch, values);
    MemorySegment.copy(values, 0, host.segment(), ValueLayout.JAVA_INT, 0, values.length);
    stream.copyToDevice(host.address(), arena.address(), (long) Integer.BYTES * values.length);
    sent.record();
    launch(last.graph(), last.bucket());
  }

  private void launch(CUgraphExec graph, StepBucket in) {
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
      host = stream.device().pinned(ARENA_BYTES);
      arena = stream.device().allocate(ARENA_BYTES, "workspace");
      sent = new StreamMark(stream);
    }
  }

  long reserve(long bytes) {
    long at = offset;
    offset += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (offset > arena.bytes()) {
      throw new IllegalStateException(
          "the arrays of a step of %d rows take more than %d bytes".formatted(rows, arena.bytes()));
    }
    return at;
  }

  MemorySegment host(long at, long bytes) {
    return host.segment().asSlice(at, bytes);
  }

  long send(long at, long bytes) {
    if (mode == Mode.DIRECT) {
      stream.copyToDevice(host.address() + at, arena.address() + at, bytes);
      sent.record();
    }
    return arena.address() + at;
  }

  private void sendArena() {
    if (offset > 0) {
      stream.copyToDevice(host.address(), arena.address(), offset);
      sent.record();
    }
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
