package io.infinilora.wire;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.vertx.core.buffer.Buffer;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.UUID;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class WireCodecsTest {

  static Stream<Class<?>> controlMessages() {
    return WireCodecs.controlMessages().stream();
  }

  @ParameterizedTest
  @MethodSource("controlMessages")
  void everyControlMessageIsTheSameInAnotherProcess(Class<?> type) {
    assertThat(type.isRecord()).isTrue();
    same(type);
  }

  private static <T> void same(Class<T> type) {
    JsonCodec<T> codec = new JsonCodec<>(type);
    T message = new RecordSamples().of(type);
    Buffer wire = Buffer.buffer("before");
    codec.encodeToWire(wire, message);

    assertThat(codec.decodeFromWire("before".length(), wire))
        .usingRecursiveComparison()
        .isEqualTo(message);
  }

  @Test
  void withinAJvmTheMessageItselfArrives() {
    LeaseGrant grant = new LeaseGrant(UUID.randomUUID(), 7, 3);
    assertThat(new JsonCodec<>(LeaseGrant.class).transform(grant)).isSameAs(grant);
  }

  @Test
  void fieldsOfANewerVersionArePassedOver() {
    Buffer wire = Buffer.buffer();
    byte[] json = "{\"session\":\"base-0\",\"mood\":\"fine\"}".getBytes(StandardCharsets.UTF_8);
    wire.appendInt(json.length).appendBytes(json);
    assertThat(new JsonCodec<>(LeaseRenewal.class).decodeFromWire(0, wire))
        .isEqualTo(new LeaseRenewal("base-0"));
  }

  @Test
  void garbageIsRefusedByName() {
    Buffer wire = Buffer.buffer();
    byte[] json = "[1]".getBytes(StandardCharsets.UTF_8);
    wire.appendInt(json.length).appendBytes(json);
    assertThatThrownBy(() -> new JsonCodec<>(LeaseRenewal.class).decodeFromWire(0, wire))
        .isInstanceOf(UncheckedIOException.class)
        .hasMessageContaining("LeaseRenewal");
  }

  @Test
  void memoryDoesNotLeaveItsJvm() {
    LocalCodec<LoraLayerRequest> codec = new LocalCodec<>(LoraLayerRequest.class);
    assertThatThrownBy(() -> codec.encodeToWire(Buffer.buffer(), new LoraLayerRequest(null, 0)))
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("LoraLayerRequest");
    assertThat(WireCodecs.controlMessages())
        .doesNotContainAnyElementsOf(List.of(LoraLayerRequest.class));
  }
}
