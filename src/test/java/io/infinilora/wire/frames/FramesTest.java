package io.infinilora.wire.frames;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoadException;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.embedded.EmbeddedChannel;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.UUID;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Frames as bytes: there and back, cut anywhere, and not what they should be. */
class FramesTest {
  private final List<ByteBuf> buffers = new ArrayList<>();
  private final List<FrameHeader> headers = new ArrayList<>();
  private final List<ByteBuf> payloads = new ArrayList<>();
  private final List<Throwable> ends = new ArrayList<>();
  private Consumer<FrameHeader> check = header -> {};

  /** Writes to a channel without anybody at its end. */
  private final EmbeddedChannel out = new EmbeddedChannel(new ChannelInboundHandlerAdapter());

  private final FrameConnection connection =
      new FrameConnection(out.pipeline().context(ChannelInboundHandlerAdapter.class));

  private EmbeddedChannel in() {
    return new EmbeddedChannel(
        new FrameCutter(
            new FrameListener() {
              @Override
              public void check(FrameHeader header) {
                check.accept(header);
              }

              @Override
              public void frame(FrameHeader header, ByteBuf payload) {
                headers.add(header);
                payloads.add(payload);
              }

              @Override
              public void closed(Throwable cause) {
                ends.add(cause);
              }
            }));
  }

  private ByteBuf counted(ByteBuf buffer) {
    buffers.add(buffer);
    return buffer;
  }

  @AfterEach
  void everyBufferIsGivenBack() {
    payloads.forEach(ByteBuf::release);
    out.finishAndReleaseAll();
    assertThat(buffers).allMatch(b -> b.refCnt() == 0);
    assertThat(payloads).allMatch(p -> p.refCnt() == 0);
  }

  private static FrameHeader activations(int bytes) {
    return new FrameHeader(FrameType.ACTIVATIONS, 3, 1L << 40, 65_535, LoraSite.MLP_OUT, 7, bytes);
  }

  private ByteBuf frame(int bytes) {
    ByteBuf frame = counted(connection.frame(activations(bytes)));
    for (int i = 0; i < bytes; i++) {
      frame.writeByte(i);
    }
    return frame;
  }

  @Test
  void theHeaderIsAsDocumented() {
    ByteBuf frame = frame(2);

    assertThat(frame.readableBytes()).isEqualTo(34);
    assertThat(frame.readCharSequence(4, StandardCharsets.US_ASCII)).hasToString("ILF1");
    assertThat(frame.readByte()).isEqualTo((byte) 5);
    assertThat(frame.readByte()).isEqualTo((byte) 3);
    assertThat(frame.readUnsignedShortLE()).isEqualTo(65_535);
    assertThat(frame.readIntLE()).isEqualTo(3);
    assertThat(frame.readIntLE()).isEqualTo(7);
    assertThat(frame.readLongLE()).isEqualTo(1L << 40);
    assertThat(frame.readIntLE()).isEqualTo(2);
    assertThat(frame.readIntLE()).isZero();
    frame.release();
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 31, 32, 33, 40, 63, 64, 100, 1000})
  void framesAreCutWhereverTheirBytesArrive(int piece) {
    EmbeddedChannel in = in();
    ByteBuf stream = counted(Unpooled.directBuffer());
    int[] sizes = {5, 0, 100, 1, 333};
    for (int size : sizes) {
      ByteBuf frame = frame(size);
      stream.writeBytes(frame);
      frame.release();
    }
    while (stream.isReadable()) {
      ByteBuf part = stream.readBytes(Math.min(piece, stream.readableBytes()));
      counted(part);
      in.writeInbound(part);
    }
    stream.release();

    assertThat(headers).extracting(FrameHeader::bytes).containsExactly(5, 0, 100, 1, 333);
    for (int f = 0; f < sizes.length; f++) {
      assertThat(headers.get(f)).isEqualTo(activations(sizes[f]));
      for (int i = 0; i < sizes[f]; i++) {
        assertThat(payloads.get(f).getByte(payloads.get(f).readerIndex() + i)).isEqualTo((byte) i);
      }
    }
    assertThat(ends).isEmpty();
    in.close();
    assertThat(ends).hasSize(1).containsOnlyNulls();
  }

  @Test
  void aPayloadThatCameAsAWholeIsNotCopied() {
    ByteBuf frame = frame(50);
    in().writeInbound(frame);

    assertThat(payloads.getFirst().unwrap()).isNotNull();
    assertThat(frame.refCnt()).isEqualTo(1);
    assertThat(payloads.getFirst().nioBuffer()).isEqualTo(frame.nioBuffer(32, 50));
  }

  @ParameterizedTest
  @ValueSource(ints = {10, 40})
  void anEndInsideAFrameIsToldAndLeavesNothing(int bytes) {
    EmbeddedChannel in = in();
    ByteBuf frame = frame(50);
    in.writeInbound(counted(frame.readBytes(bytes)));
    frame.release();
    in.close();

    assertThat(ends).singleElement().isInstanceOf(FrameException.class);
    assertThat(headers).isEmpty();
  }

  @Test
  void aSizeThatIsRefusedIsNotAllocated() {
    check =
        header -> {
          throw new FrameException("too much");
        };
    EmbeddedChannel in = in();
    ByteBuf frame = counted(connection.frame(activations(0)));
    frame.setIntLE(24, Integer.MAX_VALUE);
    in.writeInbound(frame);

    assertThat(ends).extracting(Throwable::getMessage).containsExactly("too much");
    assertThat(in.isOpen()).isFalse();
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 4, 5, 11, 15, 23, 27, 28})
  void whatIsNoHeaderEndsTheConnection(int offset) {
    EmbeddedChannel in = in();
    ByteBuf frame = frame(3);
    frame.setByte(offset, 0x99);
    in.writeInbound(frame);

    assertThat(ends).singleElement().isInstanceOf(FrameException.class);
    assertThat(in.isOpen()).isFalse();
    assertThat(headers).isEmpty();
  }

  @Test
  void hellosTravel() {
    Hello hello = new Hello(1, UUID.randomUUID(), 512, "base-0/1", "bäse-0", "2 layers");
    ByteBuf frame = counted(hello.frame(connection));
    in().writeInbound(frame);

    assertThat(headers.getFirst().type()).isEqualTo(FrameType.HELLO);
    assertThat(Hello.read(payloads.getFirst())).isEqualTo(hello);
    assertThat(payloads.getFirst().isReadable()).isFalse();
  }

  @Test
  void stepsTravel() {
    StepFrame step =
        new StepFrame(
            -5,
            EnumSet.of(LoraTarget.Q, LoraTarget.DOWN),
            new int[] {9, 1, 5},
            new int[] {0, 2, 3, 7});
    in().writeInbound(counted(step.frame(connection, 4, 77)));

    assertThat(headers.getFirst()).isEqualTo(FrameHeader.of(FrameType.STEP, 4, 77, 7, 16 + 3 * 8));
    assertThat(StepFrame.read(payloads.getFirst(), 7)).usingRecursiveComparison().isEqualTo(step);
    assertThat(StepFrame.mostBytes(7)).isGreaterThanOrEqualTo(headers.getFirst().bytes());
  }

  @Test
  void stepsThatAreNoneAreRefused() {
    List<Consumer<ByteBuf>> damages =
        List.of(
            b -> b.setIntLE(40, -1), // Targets.
            b -> b.setIntLE(40, 1 << 7),
            b -> b.setIntLE(44, 0), // Groups.
            b -> b.setIntLE(44, 3),
            b -> b.setIntLE(44, 1 << 29),
            b -> b.setIntLE(52, 0), // Rows of the first.
            b -> b.setIntLE(52, -1),
            b -> b.setIntLE(52, 1),
            b -> b.setIntLE(52, Integer.MAX_VALUE),
            b -> b.writerIndex(40));
    for (int i = 0; i < damages.size(); i++) {
      ByteBuf frame =
          counted(
              new StepFrame(1, EnumSet.of(LoraTarget.Q), new int[] {1, 2}, new int[] {0, 2, 4})
                  .frame(connection, 0, 0));
      damages.get(i).accept(frame);
      frame.skipBytes(FrameHeader.BYTES);
      assertThatThrownBy(() -> StepFrame.read(frame, 4))
          .as("damage %d", i)
          .isInstanceOf(FrameException.class);
      frame.release();
    }
  }

  @Test
  void troubleTravelsAndIsCut() {
    InfiniLoraException cause = new InfiniLoraException(ErrorCode.DEADLINE_EXCEEDED, "zu spät");
    in().writeInbound(counted(Trouble.of(cause).frame(connection, FrameType.FAILURE, 1, 2)));
    Trouble trouble = Trouble.read(payloads.getFirst());
    assertThat(trouble).isEqualTo(new Trouble(ErrorCode.DEADLINE_EXCEEDED, "zu spät"));

    Trouble long0 = Trouble.of(new IllegalStateException("€".repeat(100_000)));
    in().writeInbound(counted(long0.frame(connection, FrameType.REFUSAL, 0, 0)));
    assertThat(headers.getLast().bytes()).isLessThanOrEqualTo(Trouble.MOST_BYTES);
    assertThat(Trouble.read(payloads.getLast()).code()).isEqualTo(ErrorCode.INTERNAL);

    AdapterId adapter = new AdapterId("späte", "0123abcd");
    Trouble load =
        Trouble.of(new AdapterLoadException(adapter, ErrorCode.BAD_ADAPTER, "truncated", null));
    in().writeInbound(counted(load.frame(connection, FrameType.FAILURE, 1, 2)));
    assertThat(Trouble.read(payloads.getLast()).exception())
        .isInstanceOfSatisfying(
            AdapterLoadException.class,
            e -> {
              assertThat(e.adapter()).isEqualTo(adapter);
              assertThat(e.code()).isEqualTo(ErrorCode.BAD_ADAPTER);
            });

    ByteBuf damaged = counted(Trouble.of(cause).frame(connection, FrameType.FAILURE, 1, 2));
    damaged.skipBytes(FrameHeader.BYTES);
    damaged.setIntLE(FrameHeader.BYTES, 1000);
    assertThatThrownBy(() -> Trouble.read(damaged)).isInstanceOf(FrameException.class);
    damaged.release();
  }

  @Test
  void payloadsThatNobodyTakesAreReleased() {
    PayloadSlots slots = new PayloadSlots();
    ByteBuf first = counted(Unpooled.directBuffer());
    ByteBuf second = counted(Unpooled.directBuffer());
    ByteBuf other = counted(Unpooled.directBuffer());
    slots.put(LoraSite.MLP_IN, first);
    assertThatThrownBy(() -> slots.put(LoraSite.MLP_IN, second)).isInstanceOf(FrameException.class);
    slots.put(LoraSite.MLP_OUT, other);
    assertThat(slots.take(LoraSite.MLP_OUT)).isSameAs(other);
    assertThat(slots.take(LoraSite.MLP_OUT)).isNull();
    other.release();
    slots.close();
    ByteBuf late = counted(Unpooled.directBuffer());
    slots.put(LoraSite.MLP_IN, late);
    assertThat(slots.take(LoraSite.MLP_IN)).isNull();
  }
}
