package io.infinilora.cluster;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;

/** A name server on loopback that knows the IPv4 addresses of one name. */
final class FakeDns implements AutoCloseable {
  private static final int HEADER_BYTES = 12;
  private static final int TYPE_A = 1;

  private final String name;
  private final String[] addresses;
  private final DatagramSocket socket;

  FakeDns(String name, String... addresses) throws IOException {
    this.name = name;
    this.addresses = addresses;
    socket = new DatagramSocket(0, InetAddress.getLoopbackAddress());
    Thread.ofPlatform().daemon().name("fake-dns").start(this::serve);
  }

  int port() {
    return socket.getLocalPort();
  }

  private void serve() {
    byte[] buffer = new byte[512];
    try {
      while (true) {
        DatagramPacket query = new DatagramPacket(buffer, buffer.length);
        socket.receive(query);
        byte[] answer = answer(query.getData(), query.getLength());
        socket.send(new DatagramPacket(answer, answer.length, query.getSocketAddress()));
      }
    } catch (IOException e) {
      // Closed.
    }
  }

  /** RFC 1035: header, the question as it came, and an A record for each address. */
  private byte[] answer(byte[] query, int length) throws IOException {
    StringBuilder asked = new StringBuilder();
    int at = HEADER_BYTES;
    while (query[at] != 0) {
      asked.append(new String(query, at + 1, query[at], StandardCharsets.US_ASCII)).append('.');
      at += 1 + query[at];
    }
    int type = query[at + 1] << 8 | query[at + 2];
    int questionEnd = at + 5;
    boolean known = asked.toString().equals(name + ".") && type == TYPE_A;
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(bytes);
    out.write(query, 0, 2); // Identifier.
    out.writeShort(0x8580 | (known ? 0 : 3)); // Authoritative answer; or no such name.
    out.writeShort(1);
    out.writeShort(known ? addresses.length : 0);
    out.writeInt(0);
    out.write(query, HEADER_BYTES, Math.min(questionEnd, length) - HEADER_BYTES);
    for (String address : known ? addresses : new String[0]) {
      out.writeShort(0xC000 | HEADER_BYTES); // The name of the question.
      out.writeShort(TYPE_A);
      out.writeShort(1);
      out.writeInt(1); // Seconds to live.
      out.writeShort(4);
      out.write(InetAddress.getByName(address).getAddress());
    }
    return bytes.toByteArray();
  }

  @Override
  public void close() {
    socket.close();
  }
}
