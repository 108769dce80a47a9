package io.infinilora.backend;

/** Frequencies of the rotary embedding in device memory, made by {@link Backend#ropeTable}. */
public interface RopeTable {
  /** Elements of a head. */
  int headDim();
}
