package io.infinilora.cli;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.locks.LockSupport;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A process of the packaged jar: what it prints, and the signals it gets. */
final class JarProcess implements AutoCloseable {
  private static final Path JAR = Path.of(System.getProperty("infinilora.jar"));
  private static final Pattern READY = Pattern.compile("ready after .*");
  private static final Pattern HTTP = Pattern.compile("listening on (http://[^/]+)");
  private static final long PATIENCE_SECONDS = 120;

  private final String name;
  private final Process process;
  private final List<String> output = new ArrayList<>();
  private final CompletableFuture<String> url = new CompletableFuture<>();
  private final CompletableFuture<Void> ready = new CompletableFuture<>();

  private JarProcess(String name, Process process) {
    this.name = name;
    this.process = process;
  }

  /** Starts {@code java -jar infinilora.jar} with small memory and without a second launch. */
  static JarProcess start(String name, List<String> arguments) {
    List<String> command =
        new ArrayList<>(
            List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--add-modules=jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED",
                "-Xmx512m",
                "-XX:+UseSerialGC",
                "-jar",
                JAR.toString()));
    command.addAll(arguments);
    try {
      JarProcess started =
          new JarProcess(name, new ProcessBuilder(command).redirectErrorStream(true).start());
      Thread.ofPlatform().daemon().name(name + "-output").start(started::read);
      return started;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private void read() {
    try (BufferedReader reader = process.inputReader()) {
      for (String line = reader.readLine(); line != null; line = reader.readLine()) {
        synchronized (output) {
          output.add(line);
        }
        Matcher http = HTTP.matcher(line);
        if (http.find()) {
          url.complete(http.group(1));
        }
        if (READY.matcher(line).matches()) {
          ready.complete(null);
        }
      }
    } catch (IOException e) {
      // A killed process takes its pipe along.
    }
    IllegalStateException ended = new IllegalStateException(name + " has ended:\n" + output());
    url.completeExceptionally(ended);
    ready.completeExceptionally(ended);
  }

  /** Where its HTTP server listens. */
  String url() {
    return await(url);
  }

  /** Waits until it says that it serves. */
  JarProcess awaitReady() {
    await(ready);
    return this;
  }

  private <T> T await(CompletableFuture<T> future) {
    try {
      return future.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    } catch (ExecutionException | TimeoutException e) {
      throw new IllegalStateException(name + ":\n" + output(), e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(e);
    }
  }

  /** SIGKILL: it ends without doing anything more. */
  void kill() {
    process.destroyForcibly();
    process.onExit().join();
  }

  /** SIGTERM; what it prints is read on. */
  void terminate() {
    process.toHandle().destroy();
  }

  /** SIGSTOP: it lives and does nothing; {@link #kill} works all the same. */
  void suspend() {
    signal("STOP");
  }

  /** SIGCONT. */
  void resume() {
    signal("CONT");
  }

  private void signal(String signal) {
    try {
      new ProcessBuilder("kill", "-" + signal, Long.toString(process.pid())).start().waitFor();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /** Waits for its end; returns the exit code. */
  int exit() {
    try {
      if (!process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS)) {
        throw new IllegalStateException(name + " does not end:\n" + output());
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    return process.exitValue();
  }

  /** Waits until it has printed a text. */
  void awaitOutput(String text) {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
    while (!output().contains(text)) {
      if (System.nanoTime() > end) {
        throw new IllegalStateException(name + " does not say " + text + ":\n" + output());
      }
      LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(10));
    }
  }

  /** What it has printed so far. */
  String output() {
    synchronized (output) {
      return String.join("\n", output);
    }
  }

  @Override
  public void close() {
    kill();
  }
}
