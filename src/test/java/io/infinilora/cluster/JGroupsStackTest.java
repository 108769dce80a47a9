package io.infinilora.cluster;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import io.infinilora.config.ClusterConfig;
import io.infinilora.config.HostPort;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.jgroups.EmptyMessage;
import org.jgroups.JChannel;
import org.jgroups.Receiver;
import org.jgroups.View;
import org.jgroups.protocols.TCPPING;
import org.jgroups.protocols.pbcast.NAKACK2;
import org.jgroups.protocols.pbcast.NakAckHeader2;
import org.jgroups.stack.IpAddress;
import org.jgroups.util.UUID;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.slf4j.LoggerFactory;

@Timeout(60)
class JGroupsStackTest {

  @Test
  void peersAreAskedAndTheProcessItself() throws Exception {
    String xml =
        JGroupsStack.xml(
            config(
                "127.0.0.1",
                7900,
                List.of(new HostPort("127.0.0.1", 7800), new HostPort("127.0.0.2", 7801)),
                Optional.empty()));
    try (JChannel channel = channel(xml)) {
      TCPPING discovery = channel.getProtocolStack().findProtocol(TCPPING.class);
      assertThat(discovery.getInitialHosts())
          .containsExactlyInAnyOrder(
              new IpAddress("127.0.0.1", 7900),
              new IpAddress("127.0.0.1", 7800),
              new IpAddress("127.0.0.2", 7801));
    }
  }

  @Test
  void aDnsNameLeadsToAllMembers() throws Exception {
    int port = portFreeOn("127.0.0.1", "127.0.0.2");
    try (FakeDns dns = new FakeDns("members.test", "127.0.0.1", "127.0.0.2");
        JChannel one = channel(resolvedBy(dns, config("127.0.0.1", port)));
        JChannel two = channel(resolvedBy(dns, config("127.0.0.2", port)))) {
      CountDownLatch both = new CountDownLatch(1);
      one.setReceiver(
          new Receiver() {
            @Override
            public void viewAccepted(View view) {
              if (view.size() == 2) {
                both.countDown();
              }
            }
          });
      one.connect("test");
      two.connect("test");

      assertThat(both.await(30, TimeUnit.SECONDS)).as("a view of two members").isTrue();
    }
  }

  /** The other's last multicasts may be behind its leave, since nothing orders them. */
  @Test
  void whatAMemberThatHasLeftStillSaysIsDroppedInSilence() throws Exception {
    ListAppender<ILoggingEvent> complaints = new ListAppender<>();
    complaints.start();
    Logger logger = (Logger) LoggerFactory.getLogger("org.jgroups");
    logger.addAppender(complaints);
    int port = portFreeOn("127.0.0.1", "127.0.0.2");
    String xml = JGroupsStack.xml(config("127.0.0.1", port, List.of(), Optional.empty()));
    try (JChannel channel = channel(xml)) {
      channel.connect("test");
      NAKACK2 delivery = channel.getProtocolStack().findProtocol(NAKACK2.class);
      delivery.up(
          new EmptyMessage()
              .setSrc(UUID.randomUUID())
              .putHeader(delivery.getId(), NakAckHeader2.createMessageHeader(1)));
    } finally {
      logger.detachAppender(complaints);
    }
    assertThat(complaints.list).isEmpty();
  }

  private static ClusterConfig config(String host, int port) {
    return config(host, port, List.of(), Optional.of("members.test"));
  }

  private static ClusterConfig config(
      String host, int port, List<HostPort> peers, Optional<String> dns) {
    return new ClusterConfig(
        "test", Optional.empty(), host, port, 0, 0, peers, dns, Optional.empty());
  }

  /** The stack with another server of names than this machine's. */
  private static String resolvedBy(FakeDns dns, ClusterConfig config) {
    String xml = JGroupsStack.xml(config);
    String query = "dns_query=\"members.test\"";
    assertThat(xml).contains(query);
    return xml.replace(query, query + " dns_address=\"127.0.0.1:" + dns.port() + "\"");
  }

  private static JChannel channel(String xml) throws Exception {
    return new JChannel(new ByteArrayInputStream(xml.getBytes(StandardCharsets.UTF_8)));
  }

  private static int portFreeOn(String first, String second) throws IOException {
    while (true) {
      try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getByName(first));
          ServerSocket same =
              new ServerSocket(socket.getLocalPort(), 1, InetAddress.getByName(second))) {
        return same.getLocalPort();
      } catch (IOException e) {
        continue; // Taken on the second address; another one, then.
      }
    }
  }
}
