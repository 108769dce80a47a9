package io.infinilora.cli;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Makes the Vector API available. It is an incubator module, which a jar's manifest cannot ask for;
 * so a JVM started without it is started again with the flag, once.
 */
final class VectorModule {
  private static final String MODULE = "jdk.incubator.vector";
  private static final String RELAUNCHED = "infinilora.relaunched";

  private VectorModule() {}

  /** Returns if the module is there; otherwise never. */
  static void relaunchIfMissing(String[] args) {
    if (ModuleLayer.boot().findModule(MODULE).isPresent()) {
      return;
    }
    if (Boolean.getBoolean(RELAUNCHED)) {
      System.err.println(
          "error: this Java runtime has no module " + MODULE + "; InfiniLoRA needs a full JDK 25");
      System.exit(1);
    }
    List<String> command = command(args);
    try {
      execute(command);
    } catch (Throwable e) {
      // No exec on this platform: a child process does the work instead.
      System.exit(runChild(command));
    }
  }

  private static List<String> command(String[] args) {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(ManagementFactory.getRuntimeMXBean().getInputArguments());
    command.add("--add-modules=" + MODULE);
    command.add("--enable-native-access=ALL-UNNAMED");
    command.add("-D" + RELAUNCHED + "=true");
    command.add("-cp");
    command.add(System.getProperty("java.class.path"));
    command.add(Main.class.getName());
    command.addAll(List.of(args));
    return command;
  }

  /**
   * Replaces this process, so that signals and the exit code need no forwarding. Returns only by
   * throwing.
   */
  private static void execute(List<String> command) throws Throwable {
    if (!Files.exists(Path.of("/proc/self"))) {
      throw new IOException("not Linux");
    }
    Linker linker = Linker.nativeLinker();
    var execv =
        linker.downcallHandle(
            linker.defaultLookup().findOrThrow("execv"),
            FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.ADDRESS));
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment argv = arena.allocate(ValueLayout.ADDRESS, command.size() + 1L);
      for (int i = 0; i < command.size(); i++) {
        argv.setAtIndex(ValueLayout.ADDRESS, i, arena.allocateFrom(command.get(i)));
      }
      int result = (int) execv.invokeExact(argv.getAtIndex(ValueLayout.ADDRESS, 0), argv);
      throw new IOException("execv returned " + result);
    }
  }

  private static int runChild(List<String> command) {
    try {
      return new ProcessBuilder(command).inheritIO().start().waitFor();
    } catch (IOException e) {
      System.err.println("error: cannot start " + command.getFirst() + ": " + e.getMessage());
      return 1;
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      return 1;
    }
  }
}
