package io.infinilora.backend.cpu;

import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.Vec;
import io.infinilora.core.WeightMatrix;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Packed layers of several experts with a common input. */
final class PackedExperts implements ExpertProjection {
  private final CpuBackend owner;
  private final PackedMatrix[][] experts;

  /** Packs; the shapes are those that {@link #check} let pass. */
  private PackedExperts(
      CpuBackend owner, List<List<WeightMatrix>> experts, List<List<Vec>> biases) {
    this.owner = owner;
    this.experts = new PackedMatrix[experts.size()][];
    Map<Integer, Long> zeros = new HashMap<>();
    for (int e = 0; e < experts.size(); e++) {
      List<WeightMatrix> weights = experts.get(e);
      this.experts[e] = new PackedMatrix[weights.size()];
      for (int i = 0; i < weights.size(); i++) {
        WeightMatrix w = weights.get(i);
        long padded = PackedMatrix.panels(w.rows()) * TileKernels.PANEL_BYTES;
        Vec bias = biases.get(e).get(i);
        long address;
        if (bias == null) {
          address = zeros.computeIfAbsent(w.rows(), rows -> owner.allocate(padded));
        } else {
          address = owner.allocate(padded);
          Memory.copy(((CpuVec) bias).address(), address, 4L * w.rows());
        }
        this.experts[e][i] = MatrixPacker.pack(w, owner.allocate(MatrixPacker.bytes(w)), address);
      }
    }
  }

  /** Checks shapes and packs. */
  static PackedExperts pack(
      CpuBackend owner, List<List<WeightMatrix>> experts, List<List<Vec>> biases) {
    check(experts, biases);
    return new PackedExperts(owner, experts, biases);
  }

  private static void check(List<List<WeightMatrix>> experts, List<List<Vec>> biases) {
    if (experts.isEmpty() || experts.getFirst().isEmpty() || experts.size() != biases.size()) {
      throw new IllegalArgumentException(
          experts.size() + " experts with biases for " + biases.size());
    }
    List<WeightMatrix> first = experts.getFirst();
    for (int e = 0; e < experts.size(); e++) {
      List<WeightMatrix> weights = experts.get(e);
      if (weights.size() != first.size() || biases.get(e).size() != first.size()) {
        throw new IllegalArgumentException(
            "expert %d has %d matrices and %d biases, but should have %d"
                .formatted(e, weights.size(), biases.get(e).size(), first.size()));
      }
      for (int i = 0; i < weights.size(); i++) {
        WeightMatrix w = weights.get(i);
        if (w.cols() != first.getFirst().cols() || w.rows() != first.get(i).rows()) {
          throw new IllegalArgumentException(
              "expert %d has %s, which differs from %s".formatted(e, w, first.get(i)));
        }
        Vec bias = biases.get(e).get(i);
        if (bias != null && bias.size() != w.rows()) {
          throw new IllegalArgumentException(
              "expert %d has a bias of %d for %s".formatted(e, bias.size(), w));
        }
      }
    }
  }

  CpuBackend owner() {
    return owner;
  }

  /** Output {@code i} of an expert. */
  PackedMatrix matrix(int expert, int i) {
    return experts[expert][i];
  }

  @Override
  public int experts() {
    return experts.length;
  }

  @Override
  public int outputs() {
    return experts[0].length;
  }

  @Override
  public int in() {
    return experts[0][0].in();
  }

  @Override
  public int out(int i) {
    return experts[0][i].out();
  }

  @Override
  public long bytes() {
    long bytes = 0;
    for (PackedMatrix[] expert : experts) {
      for (PackedMatrix m : expert) {
        bytes += m.bytes();
      }
    }
    return bytes;
  }

  @Override
  public String toString() {
    return "%d experts of %d outputs, in %d".formatted(experts(), outputs(), in());
  }
}
