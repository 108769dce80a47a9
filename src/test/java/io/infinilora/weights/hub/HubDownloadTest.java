package io.infinilora.weights.hub;

import static io.infinilora.fake.FakeHub.COMMIT;
import static io.infinilora.fake.FakeHub.LISTING;
import static io.infinilora.fake.FakeHub.breakingOff;
import static io.infinilora.fake.FakeHub.chunked;
import static io.infinilora.fake.FakeHub.ignoringRange;
import static io.infinilora.fake.FakeHub.sending;
import static io.infinilora.fake.FakeHub.sha256;
import static io.infinilora.fake.FakeHub.stalling;
import static io.infinilora.fake.FakeHub.status;
import static io.infinilora.weights.hub.HubFixture.bytes;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.config.Secret;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.fake.FakeHub;
import io.infinilora.fake.FakeHub.Request;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Stream;
import org.assertj.core.api.AbstractThrowableAssert;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Downloads from a hub that works, and from one that does not. */
class HubDownloadTest {
  private static final String WEIGHTS = "model.safetensors";
  private static final byte[] CONFIG_JSON = "{\"model_type\": \"llama\"}".getBytes(UTF_8);
  private static final byte[] CONTENT = bytes(1, 300_000);

  @TempDir private Path cache;
  private HubFixture fixture;
  private FakeHub server;

  @BeforeEach
  void start() {
    fixture = new HubFixture(cache);
    server = fixture.server;
    server.small("config.json", CONFIG_JSON).large(WEIGHTS, CONTENT);
  }

  @AfterEach
  void stop() {
    fixture.close();
  }

  @Test
  void theCacheHasTheLayoutOfHuggingFacesTools() throws IOException {
    Path snapshot = fixture.pull();

    assertThat(snapshot).isEqualTo(fixture.repo("snapshots").resolve(COMMIT));
    assertThat(snapshot.resolve(WEIGHTS)).hasBinaryContent(CONTENT);
    assertThat(Files.readSymbolicLink(snapshot.resolve(WEIGHTS)))
        .isEqualTo(Path.of("../../blobs", sha256(CONTENT)));
    assertThat(Files.readSymbolicLink(snapshot.resolve("config.json")))
        .isEqualTo(Path.of("../../blobs", FakeHub.gitId(CONFIG_JSON)));
    assertThat(fixture.repo("refs").resolve("main")).hasContent(COMMIT);
    assertOnlyBlobs(sha256(CONTENT), FakeHub.gitId(CONFIG_JSON));
  }

  @Test
  void whatIsInTheCacheIsNotDownloadedAgain() throws IOException {
    Path blobs = Files.createDirectories(fixture.repo("blobs"));
    Files.write(blobs.resolve(sha256(CONTENT)), CONTENT);

    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);

    assertThat(server.requestsFor(WEIGHTS)).isEmpty();
  }

  @Test
  void aBrokenDownloadGoesOnWhereItStopped() {
    server.next(WEIGHTS, breakingOff(100_000, "\"v1\""), breakingOff(50_000, "\"v1\""));
    server.next(WEIGHTS, sending(CONTENT, "\"v1\""));

    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);

    assertThat(ranges()).containsExactly("", "bytes=100000- if \"v1\"", "bytes=150000- if \"v1\"");
    assertThat(fixture.pauses).containsExactly(Duration.ofSeconds(1), Duration.ofSeconds(2));
    assertThat(fixture.notes).allMatch(note -> note.startsWith("hf:acme/tiny: " + WEIGHTS));
  }

  @Test
  void anotherProcessGoesOnWhereThisOneStopped() {
    server.next(WEIGHTS, breakingOff(100_000, "\"v1\""));
    for (int i = 0; i < 5; i++) {
      server.next(WEIGHTS, status(503));
    }
    assertRefused().hasMessageContaining(WEIGHTS + ": HTTP 503; gave up after several tries");
    server.next(WEIGHTS, sending(CONTENT, "\"v1\""));

    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);

    assertThat(ranges()).last().isEqualTo("bytes=100000- if \"v1\"");
    assertThat(server.requestsFor("config.json")).hasSize(1);
    assertOnlyBlobs(sha256(CONTENT), FakeHub.gitId(CONFIG_JSON));
  }

  @Test
  void aCompletePartialFileIsOnlyChecked() throws IOException {
    Path partial = partial();
    Files.createDirectories(partial.getParent());
    Files.write(partial, CONTENT);

    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);

    assertThat(server.requestsFor(WEIGHTS)).isEmpty();
  }

  @Test
  void aFileThatChangedMeanwhileStartsOver() {
    server.next(WEIGHTS, breakingOff(100_000, "\"v1\""), sending(CONTENT, "\"v2\""));

    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);

    assertThat(ranges()).containsExactly("", "bytes=100000- if \"v1\"");
  }

  @Test
  void aServerThatIgnoresRangeStartsOver() {
    server.next(WEIGHTS, breakingOff(100_000, "\"v1\""), ignoringRange("\"v1\""));

    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);
  }

  @Test
  void aPartOfAnotherVersionOrFromAnotherPlaceIsNotTaken() {
    server.next(
        WEIGHTS,
        breakingOff(100_000, "\"v1\""),
        (exchange, content) -> {
          exchange.getResponseHeaders().set("ETag", "\"v2\"");
          exchange.getResponseHeaders().set("Content-Range", "bytes 100000-299999/300000");
          exchange.sendResponseHeaders(206, 200_000);
          exchange.getResponseBody().write(bytes(2, 200_000));
        },
        breakingOff(100_000, "\"v1\""),
        (exchange, content) -> {
          exchange.getResponseHeaders().set("Content-Range", "bytes 0-299999/300000");
          exchange.sendResponseHeaders(206, 300_000);
          exchange.getResponseBody().write(content);
        });

    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);

    assertThat(ranges())
        .containsExactly("", "bytes=100000- if \"v1\"", "", "bytes=100000- if \"v1\"", "");
  }

  @Test
  void aRangeThatCannotBeSatisfiedStartsOver() {
    server.next(WEIGHTS, breakingOff(100_000, "\"v1\""), status(416));

    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);
  }

  @Test
  void aDamagedPartialFileIsFoundOutAndReplaced() throws IOException {
    Path partial = partial();
    Files.createDirectories(partial.getParent());
    Files.write(partial, bytes(3, 100_000));

    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);

    assertThat(ranges()).containsExactly("bytes=100000-", "");
    assertThat(fixture.notes).anyMatch(note -> note.contains("wrong checksum"));
  }

  @Test
  void aPartialFileThatIsTooLongStartsOver() throws IOException {
    Path partial = partial();
    Files.createDirectories(partial.getParent());
    Files.write(partial, bytes(3, 300_001));

    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);

    assertThat(ranges()).containsExactly("");
  }

  @Test
  void aSilentConnectionIsGivenUp() {
    CountDownLatch released = new CountDownLatch(1);
    fixture.patience = Duration.ofSeconds(1);
    server.next(WEIGHTS, stalling(100_000, "\"v1\"", () -> join(released)));
    try {
      assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);
    } finally {
      released.countDown();
    }
    assertThat(fixture.notes).anyMatch(note -> note.contains("nothing arrived for 1 s"));
  }

  @ParameterizedTest
  @ValueSource(strings = {WEIGHTS, "config.json"})
  void aWrongChecksumDiscardsTheFile(String file) {
    byte[] right = file.equals(WEIGHTS) ? CONTENT : CONFIG_JSON;
    String name = file.equals(WEIGHTS) ? sha256(right) : FakeHub.gitId(right);
    server.next(file, sending(bytes(4, right.length), "\"x\""));

    assertRefused()
        .hasMessageStartingWith("hf:acme/tiny: " + file + ": wrong checksum")
        .hasMessageContaining(name)
        .hasMessageEndingWith("the file was discarded");

    assertThat(fixture.repo("snapshots")).doesNotExist();
    assertThat(fixture.repo("refs")).doesNotExist();
    assertThat(blobs()).noneMatch(blob -> blob.startsWith(name));
  }

  @Test
  void aLyingContentLengthDiscardsTheFile() {
    server.next(WEIGHTS, sending(bytes(5, 299_999), "\"x\""));

    assertRefused()
        .hasMessageContaining("the server announces 299999 bytes, the repository 300000");
  }

  @Test
  void contentThatNeverEndsIsCutOff() {
    server.next(WEIGHTS, chunked(bytes(6, 300_001)));

    assertRefused().hasMessageContaining("the server sends more than the 300000 bytes");

    assertThat(blobs()).noneMatch(name -> name.startsWith(sha256(CONTENT)));
  }

  @Test
  void contentThatEndsTooEarlyIsNotTaken() {
    for (int i = 0; i < 6; i++) {
      server.next(WEIGHTS, chunked(bytes(1, 300_000 - 1000)));
    }
    // Each answer is a 200 from the start, so that nothing is gained.
    assertRefused().hasMessageContaining("the connection ended after 299000 of 300000 bytes");
    assertThat(fixture.pauses).hasSize(5);
  }

  @Test
  void theTokenGoesToTheHubOnly() {
    server.requiring("hf_secret");
    fixture.token = Optional.of(new Secret("hf_secret"));

    fixture.pull();

    assertThat(server.requests().stream().filter(r -> !r.toContentHost()))
        .isNotEmpty()
        .allMatch(r -> r.header("Authorization").equals(Optional.of("Bearer hf_secret")));
    assertThat(server.requestsFor(WEIGHTS))
        .isNotEmpty()
        .allMatch(r -> r.header("Authorization").isEmpty());
  }

  @Test
  void relativeRedirectionsAreFollowedWithTheToken() {
    server.requiring("hf_secret");
    fixture.token = Optional.of(new Secret("hf_secret"));
    server.next(
        LISTING, status(307, "Location", "/api/models/acme/tiny/revision/renamed?blobs=true"));

    fixture.pull();

    assertThat(server.requests().get(1).path()).endsWith("/revision/renamed");
  }

  @ParameterizedTest
  @ValueSource(strings = {"file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", "http:"})
  void otherRedirectionsAreRefused(String location) {
    server.next(LISTING, status(302, "Location", location));

    assertRefused().hasMessageContaining("redirected to \"" + location + "\"");
  }

  @Test
  void aCircleOfRedirectionsEnds() {
    for (int i = 0; i < 10; i++) {
      server.next(LISTING, status(302, "Location", "/api/models/acme/tiny/revision/main"));
    }
    assertRefused().hasMessageContaining("more than 10 redirections");
  }

  @Test
  void withoutATokenTheMessageAsksForOne() {
    server.requiring("hf_secret");

    assertRefused()
        .hasMessageStartingWith("hf:acme/tiny: the hub wants a token (HTTP 401)")
        .hasMessageContaining("HF_TOKEN");
    assertThat(fixture.pauses).isEmpty();
  }

  @Test
  void aWrongTokenIsNotRepeatedInTheMessage() {
    server.requiring("hf_secret");
    fixture.token = Optional.of(new Secret("hf_wrong"));

    assertRefused()
        .hasMessageContaining("the hub does not accept the token (HTTP 401)")
        .hasMessageNotContaining("hf_wrong");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "403|GatedRepo|no access (HTTP 403): HF_TOKEN is not set; if the repository is gated, ask for access at",
        "404|RepoNotFound|there is no repository acme/tiny with a revision \"main\"",
        "404|RevisionNotFound|there is no revision \"main\"",
        "404|EntryNotFound|there is no list of files",
        "418||list of files was answered with HTTP 418",
      })
  void finalAnswersAreNotTriedAgain(int status, String code, String message) {
    server.next(
        LISTING,
        status(status, "X-Error-Code", code == null ? "" : code, "X-Error-Message", "it is so"));

    assertRefused().hasMessageContaining(message).hasMessageEndingWith("(the hub says: it is so)");
    assertThat(server.requests()).hasSize(1);
  }

  @Test
  void tooManyRequestsWaitAsLongAsTheServerWants() {
    server.next(
        LISTING,
        status(429, "Retry-After", "0"),
        status(429, "Retry-After", "7"),
        status(503, "Retry-After", "Thu, 01 Jan 2026 00:00:09 GMT"),
        status(500),
        status(502, "Retry-After", "soon"));

    fixture.pull();

    assertThat(fixture.pauses.stream().map(Duration::toSeconds))
        .containsExactly(0L, 7L, 9L, 8L, 16L);
  }

  @Test
  void patienceWithAServerEnds() {
    for (int i = 0; i < 6; i++) {
      server.next(LISTING, status(429, "Retry-After", "0"));
    }
    assertRefused()
        .hasMessage(
            "hf:acme/tiny: list of files: too many requests (HTTP 429); gave up after several tries");
    assertThat(server.requests()).hasSize(6);
  }

  @Test
  void aServerThatWantsToBeLeftAloneForLongIsLeftAlone() {
    server.next(LISTING, status(429, "Retry-After", "3600"));

    assertRefused().hasMessageEndingWith("the server wants to be left alone for 3600 s");
    assertThat(fixture.pauses).isEmpty();
  }

  @Test
  void withoutAHubTheMessageNamesItAndWhatIsInTheCache() {
    fixture.pull();
    server.close();

    assertRefused()
        .hasMessageContaining("no connection to 127.0.0.1:" + server.endpoint().getPort())
        .hasMessageContaining("commit " + COMMIT + " is in the cache, --offline");
  }

  @Test
  void aFullDiskIsKnownBeforehand() {
    fixture.space = 100_000;

    assertRefused()
        .hasMessageContaining(
            "%d bytes are to be downloaded, but %s has room for 100000"
                .formatted(CONTENT.length + CONFIG_JSON.length, cache));
    assertThat(server.requests()).hasSize(1);
  }

  @Test
  void aCacheThatCannotBeWrittenIsNotTriedAgain() throws IOException {
    Files.createDirectories(partial().resolve("in the way"));

    assertRefused().hasMessageStartingWith("hf:acme/tiny: " + WEIGHTS + ": cannot write ");
    assertThat(fixture.pauses).isEmpty();
  }

  @Test
  void checksumsComeFromTheHeadersWhereTheListingHasNone() {
    server.bare();

    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);

    assertOnlyBlobs(sha256(CONTENT), FakeHub.gitId(CONFIG_JSON));
    assertThat(server.requests().stream().filter(Request::toContentHost).map(Request::method))
        .containsExactly("GET");
  }

  @Test
  void theChecksumMayBeCalledOid() {
    server
        .listed(WEIGHTS)
        .putObject("lfs")
        .put("oid", "sha256:" + sha256(CONTENT))
        .put("size", 300_000);

    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b.gguf",
        "..\\b.gguf",
        "a//b.gguf",
        "./b.gguf",
        "b\u0000.gguf",
        "",
      })
  void aNameThatPointsElsewhereDiscreditsTheListing(String name) {
    server.small("other.json", CONFIG_JSON).listed("other.json").put("rfilename", name);

    assertRefused().hasMessageContaining("which is not allowed; nothing was downloaded");
    assertThat(server.requests()).hasSize(1);
    assertThat(fixture.repo("")).doesNotExist();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"main", "../../../../tmp", "0123456789ABCDEF0123456789ABCDEF01234567", ""})
  void aCommitThatIsNoneDiscreditsTheListing(String commit) {
    server.next(LISTING, sending("{\"sha\": \"%s\"}".formatted(commit).getBytes(UTF_8), "\"x\""));

    assertRefused().hasMessageContaining("names no commit");
  }

  @ParameterizedTest
  @ValueSource(strings = {"<html>", "{\"sha\"", ""})
  void anAnswerThatIsNoListingIsRefused(String answer) {
    server.next(LISTING, sending(answer.getBytes(UTF_8), "\"x\""));

    assertRefused().hasMessageStartingWith("hf:acme/tiny: the hub's answer");
  }

  @Test
  void twoPullsAtOnceDownloadOnce() {
    CountDownLatch waiting = new CountDownLatch(1);
    server.next(
        WEIGHTS,
        (exchange, content) -> {
          // The first download ends only once the second one waits for it.
          join(waiting);
          sending(content, "\"v1\"").answer(exchange, content);
        });
    HubListener releasing =
        new HubListener() {
          @Override
          public void note(String message) {
            if (message.equals("hf:acme/tiny: waiting for another download of " + WEIGHTS)) {
              waiting.countDown();
            }
          }
        };
    List<CompletableFuture<Path>> pulls = new ArrayList<>();
    for (int i = 0; i < 2; i++) {
      pulls.add(
          CompletableFuture.supplyAsync(
              () -> {
                try (Hub hub = fixture.hub(releasing)) {
                  return hub.pull(HubFixture.REFERENCE, List.of());
                }
              },
              task -> Thread.ofPlatform().start(task)));
    }
    for (CompletableFuture<Path> pull : pulls) {
      assertThat(pull.join().resolve(WEIGHTS)).hasBinaryContent(CONTENT);
    }
    assertThat(server.requestsFor(WEIGHTS)).hasSize(1);
  }

  @Test
  void anInterruptedPullIsGoneOnWith() throws Exception {
    CountDownLatch received = new CountDownLatch(1);
    CountDownLatch released = new CountDownLatch(1);
    server.next(WEIGHTS, stalling(100_000, "\"v1\"", () -> join(released)));
    HubListener watching =
        new HubListener() {
          private long bytes;

          @Override
          public synchronized void received(long more) {
            bytes += more;
            if (bytes >= 100_000) {
              received.countDown();
            }
          }
        };
    CompletableFuture<Throwable> failure = new CompletableFuture<>();
    Thread thread =
        Thread.ofPlatform()
            .start(
                () -> {
                  try (Hub hub = fixture.hub(watching)) {
                    hub.pull(HubFixture.REFERENCE, List.of());
                    failure.complete(null);
                  } catch (InfiniLoraException e) {
                    failure.complete(e);
                  }
                });
    received.await();
    thread.interrupt();
    assertThat(failure.join())
        .hasMessage("hf:acme/tiny: interrupted; what has been downloaded is kept");
    released.countDown();
    assertThat(partial()).exists();

    server.next(WEIGHTS, sending(CONTENT, "\"v1\""));
    assertThat(fixture.pull().resolve(WEIGHTS)).hasBinaryContent(CONTENT);
    assertThat(ranges().getLast()).startsWith("bytes=");
  }

  private AbstractThrowableAssert<?, ? extends Throwable> assertRefused() {
    return assertThatThrownBy(fixture::pull)
        .isInstanceOfSatisfying(
            InfiniLoraException.class,
            e -> assertThat(e.code()).isEqualTo(ErrorCode.DOWNLOAD_FAILED));
  }

  /** Range and If-Range of each request for the weights. */
  private List<String> ranges() {
    return server.requestsFor(WEIGHTS).stream()
        .map(
            r ->
                r.header("Range").orElse("") + r.header("If-Range").map(e -> " if " + e).orElse(""))
        .toList();
  }

  private Path partial() {
    return fixture.repo("blobs").resolve(sha256(CONTENT) + ".infinilora.incomplete");
  }

  private void assertOnlyBlobs(String... names) {
    assertThat(blobs()).containsExactlyInAnyOrder(names);
  }

  private List<String> blobs() {
    try (Stream<Path> paths = Files.list(fixture.repo("blobs"))) {
      return paths.map(path -> path.getFileName().toString()).toList();
    } catch (IOException e) {
      return List.of();
    }
  }

  private static void join(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
