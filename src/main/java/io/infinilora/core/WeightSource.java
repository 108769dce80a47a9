package io.infinilora.core;

import java.nio.file.Path;
import java.util.Objects;

/** Where a model or an adapter comes from: this machine, or the Hugging Face hub. */
public sealed interface WeightSource permits WeightSource.Local, WeightSource.Random, HubReference {

  /** A file or directory of this machine. */
  record Local(Path path) implements WeightSource {

    /** Rejects null. */
    public Local {
      Objects.requireNonNull(path);
    }

    @Override
    public String toString() {
      return path.toString();
    }
  }

  /** Nowhere: random weights for a {@code config.json}, for benchmarks. */
  record Random(Path config) implements WeightSource {
    /** What its text begins with. */
    public static final String PREFIX = "random:";

    /** Rejects null. */
    public Random {
      Objects.requireNonNull(config);
    }

    @Override
    public String toString() {
      return PREFIX + config;
    }
  }

  /**
   * Reads {@code random:CONFIG}, {@code hf:REPO[@REVISION][:FILE]} or else a path.
   *
   * @throws IllegalArgumentException if the text is blank or a malformed reference
   */
  static WeightSource parse(String text) {
    if (text.startsWith(HubReference.PREFIX)) {
      return HubReference.parse(text.substring(HubReference.PREFIX.length()));
    }
    if (text.startsWith(Random.PREFIX)) {
      return new Random(Path.of(text.substring(Random.PREFIX.length())));
    }
    if (text.isBlank()) {
      throw new IllegalArgumentException("empty path");
    }
    return new Local(Path.of(text));
  }
}
