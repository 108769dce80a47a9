package io.infinilora.node;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;

/**
 * The demo model that {@code scripts/fetch-model.sh} fetches; {@code make test} does so before the
 * tests run.
 */
public final class DemoModel {
  private DemoModel() {}

  /** Its path; aborts the calling test if it was not fetched. */
  public static Path path() {
    String cache = System.getenv("XDG_CACHE_HOME");
    Path root = cache == null ? Path.of(System.getProperty("user.home"), ".cache") : Path.of(cache);
    Path model = root.resolve("infinilora/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assumeTrue(Files.isRegularFile(model), model + " is missing: run scripts/fetch-model.sh");
    return model;
  }
}
