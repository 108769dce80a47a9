package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.Backend;
import io.infinilora.backend.Vec;
import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/** Weights in bf16 that are not finite are refused on the device, by name and place. */
class FiniteWeightsTest {
  private static final short NAN = (short) 0x7fc0;
  private static final short NEGATIVE_INFINITY = (short) 0xff80;
  private static final short LARGEST = (short) 0x7f7f;
  private static final long BUDGET = 8L << 30;

  private final Arena arena = Arena.ofShared(); // Threads of the uploader read it.
  private final SplittableRandom random = new SplittableRandom(3);

  @AfterEach
  void free() {
    arena.close();
  }

  /** With the largest values of either sign somewhere. */
  private WeightMatrix matrix(String name, int rows, int cols) {
    MemorySegment data = arena.allocate(2L * rows * cols);
    for (long i = 0; i < (long) rows * cols; i++) {
      int bits = random.nextInt(LARGEST + 1) | random.nextInt(2) << 15;
      data.setAtIndex(ValueLayout.JAVA_SHORT, i, (short) bits);
    }
    return WeightMatrix.of(
        new TensorView(name, DType.BF16, new long[] {rows, cols}, data, "a file"));
  }

  private static void set(WeightMatrix matrix, int row, int col, short value) {
    matrix
        .tensor()
        .data()
        .setAtIndex(ValueLayout.JAVA_SHORT, (long) row * matrix.cols() + col, value);
  }

  @Test
  void theFaultNamesTensorAndPlace() {
    List<List<WeightMatrix>> experts =
        List.of(
            List.of(matrix("gate0", 3, 9), matrix("up0", 5, 9)),
            List.of(matrix("gate1", 3, 9), matrix("up1", 5, 9)));
    StackedOutputs shape = new StackedOutputs(9, List.of(3, 5));
    // A row has 16 elements, gate and up have 8 rows each.
    assertThat(FiniteWeights.fault(experts, shape, 0))
        .hasMessage("a file: tensor gate0 holds a value that is not finite at [0, 0]");
    assertThat(FiniteWeights.fault(experts, shape, 2 * 16 + 8))
        .hasMessageContaining("gate0 ")
        .hasMessageEndingWith("[2, 8]");
    assertThat(FiniteWeights.fault(experts, shape, 16 * (8 + 4) + 7))
        .hasMessageContaining("up0 ")
        .hasMessageEndingWith("[4, 7]");
    assertThat(FiniteWeights.fault(experts, shape, 16 * (16 + 8 + 1) + 2))
        .hasMessageContaining("up1 ")
        .hasMessageEndingWith("[1, 2]");
  }

  @Tag("gpu")
  @Test
  void theFirstOfSeveralIsFound() {
    needsGpu();
    try (CudaDevice device = CudaDevice.open(0, BUDGET);
        FiniteWeights finite = new FiniteWeights(device)) {
      long most = (1L << 31) + 4096; // 4 GiB: indices beyond those of an int.
      try (DeviceMemory memory = device.allocate(2 * most, "test")) {
        for (long elements : new long[] {8, 64, 4088, 1 << 20, (1 << 20) + 8, 10_000_008, most}) {
          assertThat(finite.first(memory.address(), elements)).isEqualTo(-1);
          for (int i = 0; i < 20; i++) {
            long at = i < 10 ? elements - 1 - i % 8 : random.nextLong(elements);
            short value = i % 2 == 0 ? NAN : NEGATIVE_INFINITY;
            write(device, memory.address(), at, value);
            assertThat(finite.first(memory.address(), elements)).isEqualTo(at);
            long before = random.nextLong(at + 1);
            write(device, memory.address(), before, (short) 0x7f80);
            assertThat(finite.first(memory.address(), elements)).isEqualTo(before);
            write(device, memory.address(), before, LARGEST);
            write(device, memory.address(), at, (short) (LARGEST | 0x8000));
            assertThat(finite.first(memory.address(), elements)).isEqualTo(-1);
          }
          // What lies behind does not count.
          if (elements < most) {
            write(device, memory.address(), elements, NAN);
            assertThat(finite.first(memory.address(), elements)).isEqualTo(-1);
            write(device, memory.address(), elements, LARGEST);
          }
        }
      }
    }
  }

  private void write(CudaDevice device, long address, long index, short value) {
    device.upload(arena.allocateFrom(ValueLayout.JAVA_SHORT, value), address + 2 * index);
  }

  @Tag("gpu")
  @Test
  void theBackendRefusesThem() {
    needsGpu();
    try (Backend backend = new CudaBackend(0, BUDGET)) {
      List<Vec> none = Arrays.asList(null, null);
      WeightMatrix gate = matrix("gate", 200, 1001);
      WeightMatrix up = matrix("up", 77, 1001);
      backend.projection(List.of(gate, up), none);
      backend.embedding(gate.tensor());
      backend.expertProjection(List.of(List.of(gate, up), List.of(gate, up)), List.of(none, none));

      set(up, 76, 1000, NAN);
      refused(
          () -> backend.projection(List.of(gate, up), none),
          "a file: tensor up holds a value that is not finite at [76, 1000]");
      WeightMatrix good = matrix("good", 77, 1001);
      refused(
          () ->
              backend.expertProjection(
                  List.of(List.of(gate, good), List.of(gate, up)), List.of(none, none)),
          "a file: tensor up holds a value that is not finite at [76, 1000]");
      set(gate, 3, 500, NEGATIVE_INFINITY);
      refused(
          () -> backend.embedding(gate.tensor()),
          "a file: tensor gate holds a value that is not finite at [3, 500]");
      backend.projection(List.of(good, good), none); // Nothing is left of that.
    }
  }

  private static void refused(Runnable load, String message) {
    assertThatThrownBy(load::run)
        .isInstanceOfSatisfying(
            InfiniLoraException.class,
            e -> assertThat(e.code()).isEqualTo(ErrorCode.BAD_MODEL_FILE))
        .hasMessage(message);
  }

  private static void needsGpu() {
    Gpu.require(BUDGET);
  }
}
