package io.infinilora.backend;

/**
 * Which experts the rows of a step go to, in device memory: for each row {@code topK} experts and
 * their weights. Created by {@link Backend#routing}, written by {@link OpStream#route}. Ordered
 * between streams by {@link Signal}s, like a {@link Tensor}.
 */
public interface Routing {
  /** Rows. */
  int rows();

  /** Choices per row. */
  int topK();

  /** Number of experts to choose from. */
  int experts();

  /**
   * The first {@code rows} rows, sharing memory; cheap. Throws {@link IndexOutOfBoundsException}
   * beyond the capacity.
   */
  Routing first(int rows);
}
