package io.infinilora.cli;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Processes of the packaged jar that form a cluster on loopback. */
final class ClusterProcesses implements AutoCloseable {
  private final Path model;
  private final List<String> settings;
  private final Map<String, Integer> ports = new HashMap<>();
  private final Map<String, JarProcess> processes = new HashMap<>();

  /**
   * No processes yet.
   *
   * @param model what all of them serve
   * @param settings {@code key=value} that all of them get
   */
  ClusterProcesses(Path model, List<String> settings) {
    this.model = model;
    this.settings = List.copyOf(settings);
  }

  /** Starts a process, at the port it had if it was there before. */
  JarProcess start(String node, String role, String... more) throws IOException {
    int port = port(node);
    List<String> command =
        new ArrayList<>(
            List.of(
                "serve",
                "--role",
                role,
                "--model",
                model.toString(),
                "--port",
                "0",
                "--cluster-port",
                Integer.toString(port),
                "--threads",
                "1",
                "--set",
                "engine.loraThreads=1",
                "--set",
                "server.warmUp=0s",
                "--set",
                "engine.kvMemory=16MiB",
                "--set",
                "lora.deviceMemory=16MiB",
                "--set",
                "cluster.node=" + node));
    command.addAll(List.of(more));
    for (String setting : settings) {
      command.addAll(List.of("--set", setting));
    }
    List<String> peers =
        ports.entrySet().stream()
            .filter(e -> !e.getKey().equals(node))
            .map(e -> "127.0.0.1:" + e.getValue())
            .toList();
    if (!peers.isEmpty()) {
      command.addAll(List.of("--peers", String.join(",", peers)));
    }
    JarProcess process = JarProcess.start(node, command);
    processes.put(node, process);
    return process;
  }

  /** A process that was started last under this name. */
  JarProcess get(String node) {
    return processes.get(node);
  }

  /** Where a node's membership listens, so that others can join through it. */
  int port(String node) throws IOException {
    Integer known = ports.get(node);
    if (known == null) {
      known = free();
      ports.put(node, known);
    }
    return known;
  }

  /** A port that is free together with the one 100 above it, as members need. */
  static int free() throws IOException {
    InetAddress loopback = InetAddress.getLoopbackAddress();
    while (true) {
      try (ServerSocket socket = new ServerSocket(0, 1, loopback);
          ServerSocket sentinel = new ServerSocket(socket.getLocalPort() + 100, 1, loopback)) {
        return sentinel.getLocalPort() - 100;
      } catch (IOException | IllegalArgumentException e) {
        continue; // The second one is taken.
      }
    }
  }

  @Override
  public void close() {
    processes.values().forEach(JarProcess::close);
  }
}
