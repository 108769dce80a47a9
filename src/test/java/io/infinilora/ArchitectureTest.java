package io.infinilora;

import static com.tngtech.archunit.base.DescribedPredicate.describe;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAPackage;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAnyPackage;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideOutsideOfPackage;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.classes;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noMethods;
import static org.assertj.core.api.Assertions.assertThat;

import com.tngtech.archunit.base.DescribedPredicate;
import com.tngtech.archunit.core.domain.JavaClass;
import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import com.tngtech.archunit.lang.ArchRule;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Holds the package table of docs/structure.md. */
class ArchitectureTest {
  private static final String ROOT = "io.infinilora.";

  private static final JavaClasses CLASSES =
      new ClassFileImporter()
          .withImportOption(new ImportOption.DoNotIncludeTests())
          .importPackages("io.infinilora");

  /** May see everything but {@code cli}. */
  private static final List<String> ALL_BUT_CLI =
      List.of(
          "core",
          "config",
          "weights",
          "weights.hub",
          "backend",
          "backend.decode",
          "backend.cpu",
          "backend.cuda",
          "model",
          "scheduler",
          "simulator",
          "adapter",
          "wire",
          "cluster",
          "wire.frames",
          "engine",
          "lora",
          "metrics",
          "gateway",
          "api",
          "node",
          "verify",
          "bench");

  /** Which packages a package may see, besides itself. */
  private static final Map<String, List<String>> MAY_SEE =
      new TreeMap<>(
          Map.ofEntries(
              Map.entry("core", List.of()),
              Map.entry("config", List.of("core")),
              Map.entry("weights", List.of("core")),
              Map.entry("weights.hub", List.of("core", "config")),
              Map.entry("backend", List.of("core", "config")),
              Map.entry("backend.decode", List.of("core")),
              Map.entry("backend.cpu", List.of("backend", "backend.decode", "core")),
              Map.entry("backend.cuda", List.of("backend", "backend.decode", "core")),
              Map.entry("model", List.of("core", "weights", "backend")),
              Map.entry("scheduler", List.of("core", "config")),
              Map.entry("simulator", List.of("core", "config", "scheduler")),
              Map.entry("adapter", List.of("core", "config", "weights", "backend")),
              Map.entry("wire", List.of("core", "backend")),
              Map.entry("cluster", List.of("core", "config")),
              Map.entry("wire.frames", List.of("core", "backend", "wire")),
              Map.entry("metrics", List.of("core")),
              Map.entry(
                  "engine",
                  List.of(
                      "core",
                      "config",
                      "weights",
                      "backend",
                      "model",
                      "scheduler",
                      "adapter",
                      "wire",
                      "wire.frames",
                      "metrics")),
              Map.entry(
                  "lora",
                  List.of(
                      "core", "config", "backend", "adapter", "wire", "wire.frames", "metrics")),
              Map.entry("gateway", List.of("core", "config", "wire", "metrics")),
              Map.entry("api", List.of("core", "config", "wire", "metrics")),
              Map.entry("node", ALL_BUT_CLI),
              Map.entry("verify", ALL_BUT_CLI),
              Map.entry("bench", ALL_BUT_CLI),
              Map.entry("cli", ALL_BUT_CLI)));

  static Set<String> packages() {
    return MAY_SEE.keySet();
  }

  @ParameterizedTest
  @MethodSource("packages")
  void aPackageSeesOnlyWhatTheTableAllows(String name) {
    DescribedPredicate<JavaClass> allowed = foreign().or(in(name));
    for (String other : MAY_SEE.get(name)) {
      allowed = allowed.or(in(other));
    }
    check(
        classes()
            .that(in(name))
            .should()
            .onlyDependOnClassesThat(
                allowed.as("are in %s, %s or of third parties", name, MAY_SEE.get(name))));
  }

  @Test
  void everyClassIsInAPackageOfTheTable() {
    List<String> strays =
        CLASSES.stream()
            .filter(type -> packages().stream().noneMatch(name -> in(name).test(type)))
            .map(JavaClass::getName)
            .toList();
    assertThat(strays).isEmpty();
  }

  @Test
  void theVocabularyNeedsTheJdkAndMutinyOnly() {
    check(
        classes()
            .that(in("core"))
            .should()
            .onlyDependOnClassesThat(
                in("core").or(resideInAnyPackage("java..", "io.smallrye.mutiny.."))));
  }

  @Test
  void theSchedulerHasNoClockNoThreadsAndNoFiles() {
    check(
        noClasses()
            .that(in("scheduler"))
            .should()
            .dependOnClassesThat(
                resideInAnyPackage(
                        "java.time..", "java.util.concurrent..", "java.nio..", "java.io..")
                    .or(describe("are Thread", type -> type.isEquivalentTo(Thread.class)))));
  }

  @Test
  void onlyTheCpuBackendUsesTheVectorApi() {
    check(
        noClasses()
            .that(DescribedPredicate.not(in("backend.cpu")))
            .should()
            .dependOnClassesThat(resideInAPackage("jdk.incubator.vector..")));
  }

  @Test
  void onlyTheCudaBackendUsesTheDriver() {
    check(
        noClasses()
            .that(DescribedPredicate.not(in("backend.cuda")))
            .should()
            .dependOnClassesThat(resideInAPackage("jcuda..")));
  }

  /**
   * C2 inlines calls of the Vector API whatever the size of the method, but calls of ours only
   * within limits; a vector that crosses a call becomes an object.
   */
  @Test
  void noMethodTakesOrReturnsAVector() {
    DescribedPredicate<JavaClass> vector = resideInAPackage("jdk.incubator.vector..");
    check(
        noMethods()
            .that()
            .areDeclaredInClassesThat(in("backend.cpu"))
            .should()
            .haveRawReturnType(vector)
            .orShould()
            .haveRawParameterTypes(DescribedPredicate.anyElementThat(vector)));
  }

  @Test
  void onlyTheCommandLineAndTheSettingsReadTheEnvironment() {
    check(
        noClasses()
            .that(DescribedPredicate.not(in("cli").or(in("config"))))
            .should()
            .callMethod(System.class, "getenv")
            .orShould()
            .callMethod(System.class, "getenv", String.class));
  }

  @Test
  void onlyCommandsPrint() {
    check(
        noClasses()
            .that(DescribedPredicate.not(in("cli").or(in("bench"))))
            .should()
            .accessField(System.class, "out")
            .orShould()
            .accessField(System.class, "err"));
  }

  @Test
  void noPackageIsCalledUtil() {
    check(noClasses().should().resideInAnyPackage("..util..", "..utils.."));
  }

  /** Classes of a package and, unless the table lists them by themselves, of those below it. */
  private static DescribedPredicate<JavaClass> in(String name) {
    DescribedPredicate<JavaClass> predicate = resideInAPackage(ROOT + name + "..");
    Stream<String> below = MAY_SEE.keySet().stream().filter(other -> other.startsWith(name + "."));
    for (String other : below.toList()) {
      predicate = predicate.and(resideOutsideOfPackage(ROOT + other + ".."));
    }
    return predicate;
  }

  private static DescribedPredicate<JavaClass> foreign() {
    return resideOutsideOfPackage("io.infinilora..");
  }

  private static void check(ArchRule rule) {
    rule.allowEmptyShould(true).check(CLASSES);
  }
}
