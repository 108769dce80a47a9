package io.infinilora.node;

import io.infinilora.core.TensorView;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Param;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/**
 * Tells models apart, so that a request is not continued by another model than it was begun by.
 * Quick even for large ones: the architecture and a sample of the weights count, not all of them.
 */
final class ModelFingerprint {
  private static final long SAMPLE_BYTES = 64 << 10;
  private static final int SHOWN_BYTES = 8;

  private ModelFingerprint() {}

  /** Equal where the same files are served, wherever they lie. */
  static String of(Checkpoint checkpoint) {
    MessageDigest digest;
    try {
      digest = MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every JDK has SHA-256", e);
    }
    digest.update(checkpoint.spec().toString().getBytes(StandardCharsets.UTF_8));
    int last = checkpoint.spec().layers() - 1;
    add(digest, checkpoint.matrix(Param.EMBEDDING, 0).tensor());
    add(digest, checkpoint.matrix(Param.Q, 0).tensor());
    add(digest, checkpoint.matrix(Param.O, last).tensor());
    add(digest, checkpoint.vector(Param.FINAL_NORM, 0));
    return HexFormat.of().formatHex(digest.digest(), 0, SHOWN_BYTES);
  }

  private static void add(MessageDigest digest, TensorView tensor) {
    long bytes = tensor.data().byteSize();
    digest.update((tensor.dtype() + " " + bytes).getBytes(StandardCharsets.UTF_8));
    long sample = Math.min(bytes, SAMPLE_BYTES);
    digest.update(tensor.data().asSlice(bytes - sample, sample).asByteBuffer());
  }
}
