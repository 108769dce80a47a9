package io.infinilora.backend.cpu;

/**
 * A matrix {@code [out, in]} in panels, and a bias (zeros if there is none) padded to whole panels.
 *
 * @param bytes of the panels
 */
record PackedMatrix(PackedFormat format, int out, int in, long address, long bias, long bytes) {

  /** Panels of a matrix with {@code out} rows. */
  static int panels(int out) {
    return Math.ceilDiv(out, TileKernels.PANEL);
  }

  /** Bytes of one panel of {@code in} columns. */
  static long panelBytes(PackedFormat format, int in) {
    return Math.ceilDiv(in, format.columns()) * format.blockBytes();
  }

  /** Number of panels. */
  int panels() {
    return panels(out);
  }

  /** First block of a panel. */
  long panel(int p) {
    return address + p * panelBytes(format, in);
  }

  /** The bias of a panel's rows. */
  long bias(int panel) {
    return bias + panel * TileKernels.PANEL_BYTES;
  }
}
