package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;
import static io.infinilora.backend.cpu.TileKernels.PANEL;
import static io.infinilora.backend.cpu.TileKernels.PANEL_BYTES;

/** Rows times the panels of a packed matrix. */
final class MatrixKernels {
  /** Columns unpacked at a time: with the panel's 32 lanes, 64 KiB of float32, which stay in L2. */
  private static final int DEPTH = 512;

  /** Panels of scales for that: a scale and an offset per 16 columns at most. */
  private static final int SCALES = 2 * DEPTH / 16;

  /** Most rows of one call, bounding the scratch memory for the last panel. */
  static final int MAX_ROWS = 256;

  /** Up to here, unpacking quants for every four rows is cheaper than unpacking them to memory. */
  private static final int FEW_ROWS = 8;

  private MatrixKernels() {}

  /**
   * {@code out[r] = bias + W x[r]} for the matrix rows of the panels {@code fromPanel ..
   * toPanel-1}.
   *
   * <p>Each element is one chain of fused multiply-adds in order of k that starts from the bias,
   * over weights rounded to float32 once. So a row's bits depend neither on the other rows and
   * their number nor on the cut into panels and tasks, and any kernel that is chosen here must keep
   * that. Nothing is checked; nothing but the panels' columns of {@code out} and the scratch memory
   * is written.
   *
   * @param rows 1 to {@link #MAX_ROWS}
   * @param x first row, xStride bytes apart; must not overlap {@code out}
   * @param out first row of the whole output, outStride bytes apart
   * @param scratch void afterwards, with everything that the caller kept in it
   */
  static void multiply(
      PackedMatrix m,
      int fromPanel,
      int toPanel,
      int rows,
      long x,
      long xStride,
      long out,
      long outStride,
      Scratch scratch) {
    long weights = scratch.reserve((DEPTH + SCALES + MAX_ROWS) * PANEL_BYTES);
    long tail = weights + (DEPTH + SCALES) * PANEL_BYTES;
    if (rows == 1 && m.format().quantBits() > 0) {
      row(m, fromPanel, toPanel, x, out, weights, tail);
      return;
    }
    for (int p = fromPanel; p < toPanel; p++) {
      int lanes = Math.min(PANEL, m.out() - p * PANEL);
      boolean whole = lanes == PANEL;
      long to = whole ? out + p * PANEL_BYTES : tail;
      long toStride = whole ? outStride : PANEL_BYTES;
      panel(m, p, rows, x, xStride, to, toStride, weights);
      if (!whole) {
        for (int r = 0; r < rows; r++) {
          Memory.copy(
              tail + r * PANEL_BYTES,
              out + r * outStride + p * PANEL_BYTES,
              (long) lanes * Float.BYTES);
        }
      }
    }
  }

  /** One row, two panels at a time. */
  private static void row(
      PackedMatrix m, int fromPanel, int toPanel, long x, long out, long scales, long tail) {
    PackedFormat format = m.format();
    long secondScales = scales + SCALES * PANEL_BYTES;
    for (int p = fromPanel; p < toPanel; p += 2) {
      // An odd last panel is computed twice.
      int q = Math.min(p + 1, toPanel - 1);
      boolean whole = (q + 1) * PANEL <= m.out();
      long first = out + p * PANEL_BYTES;
      long second = whole ? out + q * PANEL_BYTES : tail;
      if (p == q) {
        first = second;
      }
      long init = m.bias(p);
      long secondInit = m.bias(q);
      for (int k = 0; k < m.in(); k += DEPTH) {
        int blocks = Math.min(DEPTH, m.in() - k) / format.columns();
        long offset = k / format.columns() * format.blockBytes();
        UnpackKernels.scales(format, m.panel(p) + offset, blocks, scales);
        UnpackKernels.scales(format, m.panel(q) + offset, blocks, secondScales);
        RowKernels.multiply(
            format,
            m.panel(p) + offset,
            m.panel(q) + offset,
            blocks,
            scales,
            secondScales,
            x + (long) k * Float.BYTES,
            init,
            secondInit,
            first,
            second);
        init = first;
        secondInit = second;
      }
      if (!whole) {
        Memory.copy(tail, out + q * PANEL_BYTES, (long) (m.out() - q * PANEL) * Float.BYTES);
      }
    }
  }

  private static void panel(
      PackedMatrix m,
      int p,
      int rows,
      long x,
      long xStride,
      long out,
      long outStride,
      long weights) {
    PackedFormat format = m.format();
    long scales = weights + DEPTH * PANEL_BYTES;
    long init = m.bias(p);
    long initStride = 0;
    for (int k = 0; k < m.in(); k += DEPTH) {
      int depth = Math.min(DEPTH, m.in() - k);
      long block = m.panel(p) + k / format.columns() * format.blockBytes();
      long xk = x + (long) k * Float.BYTES;
      if (format.quantBits() > 0) {
        UnpackKernels.scales(format, block, depth / format.columns(), scales);
      }
      // Four-bit floats are unpacked by looking them up, which FewRowsKernels does not know.
      if (format.quantBits() > 0 && format != PackedFormat.E2M1 && rows <= FEW_ROWS) {
        fewRows(format, rows, block, depth, scales, xk, xStride, init, initStride, out, outStride);
      } else {
        long w = block;
        if (format != PackedFormat.F32) {
          UnpackKernels.unpack(format, block, depth, scales, weights);
          w = weights;
        }
        TileKernels.multiply(
            rows,
            w,
            w + VECTOR_BYTES,
            PANEL_BYTES,
            depth,
            xk,
            xStride,
            init,
            initStride,
            out,
            outStride);
      }
      init = out;
      initStride = outStride;
    }
  }

  private static void fewRows(
      PackedFormat format,
      int rows,
      long block,
      int depth,
      long scales,
      long x,
      long xStride,
      long init,
      long initStride,
      long out,
      long outStride) {
    for (int r = 0; r < rows; r += FewRowsKernels.ROWS) {
      FewRowsKernels.multiply(
          format,
          Math.min(FewRowsKernels.ROWS, rows - r),
          block,
          depth / format.columns(),
          scales,
          x + r * xStride,
          xStride,
          init + r * initStride,
          initStride,
          out + r * outStride,
          outStride);
    }
  }
}
