package io.infinilora.fake;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.stream.Stream;

/**
 * A Hugging Face hub with one repository, on free ports of the loopback interface. Small files come
 * from the hub itself, large ones by a redirection from a second server, the content host. Answers
 * can be made to go wrong, one after the other.
 */
public final class FakeHub implements AutoCloseable {
  /** The commit of every revision. */
  public static final String COMMIT = "0123456789abcdef0123456789abcdef01234567";

  /** Path under which faults of the listing are planned. */
  public static final String LISTING = "(listing)";

  /** A request as it was received. */
  public record Request(
      boolean toContentHost, String method, String path, Map<String, String> headers) {

    /** A header, whatever its case. */
    public Optional<String> header(String name) {
      return Optional.ofNullable(headers.get(name.toLowerCase(Locale.ROOT)));
    }
  }

  /** An answer in place of the right one. */
  public interface Fault {
    /** Answers a request for {@code content}. */
    void answer(HttpExchange exchange, byte[] content) throws IOException;
  }

  private record Stored(byte[] content, boolean large) {}

  private final String repo;
  private final HttpServer hub = server();
  private final HttpServer contentHost = server();
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final Map<String, Stored> files = new LinkedHashMap<>();
  private final Map<String, ObjectNode> overrides = new HashMap<>();
  private final Map<String, Deque<Fault>> faults = new HashMap<>();
  private final List<Request> requests = new ArrayList<>();
  private Optional<String> token = Optional.empty();
  private boolean bare;

  /** Starts a hub whose one repository is empty. */
  public FakeHub(String repo) {
    this.repo = repo;
    hub.createContext("/", this::answerAsHub);
    contentHost.createContext("/", this::answerAsContentHost);
    for (HttpServer server : List.of(hub, contentHost)) {
      server.setExecutor(threads);
      server.start();
    }
  }

  private static HttpServer server() {
    try {
      return HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Where it listens. */
  public URI endpoint() {
    return URI.create("http://127.0.0.1:" + hub.getAddress().getPort());
  }

  /** Adds a file that is kept in git. */
  public synchronized FakeHub small(String path, byte[] content) {
    files.put(path, new Stored(content, false));
    return this;
  }

  /** Adds a file that is kept in large-file storage. */
  public synchronized FakeHub large(String path, byte[] content) {
    files.put(path, new Stored(content, true));
    return this;
  }

  /** Adds the files of a directory, not of those below it. */
  public FakeHub directory(Path directory) throws IOException {
    try (Stream<Path> paths = Files.list(directory)) {
      for (Path path : paths.filter(Files::isRegularFile).toList()) {
        String name = path.getFileName().toString();
        byte[] content = Files.readAllBytes(path);
        if (name.endsWith(".safetensors")) {
          large(name, content);
        } else {
          small(name, content);
        }
      }
    }
    return this;
  }

  /** Fields that the listing states instead of the right ones. */
  public synchronized ObjectNode listed(String path) {
    return overrides.computeIfAbsent(path, p -> JsonNodeFactory.instance.objectNode());
  }

  /** The listing states names only, as some mirrors do. */
  public synchronized FakeHub bare() {
    bare = true;
    return this;
  }

  /** Only requests with this token are answered. */
  public synchronized FakeHub requiring(String secret) {
    token = Optional.of(secret);
    return this;
  }

  /** The next answers for a file, or for {@link #LISTING}. */
  public synchronized FakeHub next(String path, Fault... answers) {
    faults.computeIfAbsent(path, p -> new ArrayDeque<>()).addAll(List.of(answers));
    return this;
  }

  /** Requests so far, in order. */
  public synchronized List<Request> requests() {
    return List.copyOf(requests);
  }

  /** Requests for the content of a file, where that is. */
  public List<Request> requestsFor(String path) {
    boolean large = files.get(path).large();
    return requests().stream()
        .filter(r -> r.method().equals("GET") && r.toContentHost() == large)
        .filter(r -> r.path().endsWith("/" + path))
        .toList();
  }

  /** Git's id of a blob. */
  public static String gitId(byte[] content) {
    MessageDigest digest = digest("SHA-1");
    digest.update(("blob " + content.length + "\0").getBytes(StandardCharsets.US_ASCII));
    return HexFormat.of().formatHex(digest.digest(content));
  }

  /** SHA-256. */
  public static String sha256(byte[] content) {
    return HexFormat.of().formatHex(digest("SHA-256").digest(content));
  }

  private static MessageDigest digest(String algorithm) {
    try {
      return MessageDigest.getInstance(algorithm);
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  /** Answers with a status and headers, given as pairs. */
  public static Fault status(int status, String... headers) {
    return (exchange, content) -> {
      for (int i = 0; i < headers.length; i += 2) {
        exchange.getResponseHeaders().set(headers[i], headers[i + 1]);
      }
      exchange.sendResponseHeaders(status, -1);
    };
  }

  /** Sends the beginning of what was asked for under an ETag, then closes the connection. */
  public static Fault breakingOff(int bytes, String etag) {
    return (exchange, content) -> {
      int offset = offset(exchange, etag);
      head(exchange, content, offset, etag);
      exchange.getResponseBody().write(content, offset, bytes);
      exchange.getResponseBody().flush();
    };
  }

  /** Sends the beginning, then nothing, until {@code released} returns. */
  public static Fault stalling(int bytes, String etag, Runnable released) {
    return (exchange, content) -> {
      head(exchange, content, 0, etag);
      exchange.getResponseBody().write(content, 0, bytes);
      exchange.getResponseBody().flush();
      released.run();
    };
  }

  /** Answers properly, with other content and ETag. */
  public static Fault sending(byte[] other, String etag) {
    return (exchange, content) -> whole(exchange, other, etag);
  }

  /** Sends everything, whatever range was asked for. */
  public static Fault ignoringRange(String etag) {
    return (exchange, content) -> {
      exchange.getResponseHeaders().set("ETag", etag);
      exchange.sendResponseHeaders(200, content.length);
      exchange.getResponseBody().write(content);
    };
  }

  /** Sends more than the file has, without saying how much it will be. */
  public static Fault chunked(byte[] other) {
    return (exchange, content) -> {
      exchange.sendResponseHeaders(200, 0);
      exchange.getResponseBody().write(other);
    };
  }

  private void answerAsHub(HttpExchange exchange) throws IOException {
    try (exchange) {
      record(exchange, false);
      exchange.getResponseHeaders().set("X-Repo-Commit", COMMIT);
      String path = exchange.getRequestURI().getPath();
      String listing = "/api/models/" + repo + "/revision/";
      String file = "/" + repo + "/resolve/" + COMMIT + "/";
      String authorization = exchange.getRequestHeaders().getFirst("Authorization");
      if (token.isPresent() && !("Bearer " + token.get()).equals(authorization)) {
        status(401, "X-Error-Code", "RepoNotFound").answer(exchange, new byte[0]);
      } else if (path.startsWith(listing)) {
        answer(exchange, LISTING, json(), Optional.empty());
      } else if (path.startsWith(file) && files.containsKey(path.substring(file.length()))) {
        String name = path.substring(file.length());
        Stored stored = files.get(name);
        if (stored.large()) {
          redirect(exchange, name, stored.content());
        } else {
          answer(exchange, name, stored.content(), Optional.of(gitId(stored.content())));
        }
      } else {
        status(404).answer(exchange, new byte[0]);
      }
    }
  }

  private void redirect(HttpExchange exchange, String name, byte[] content) throws IOException {
    exchange.getResponseHeaders().set("X-Linked-Etag", '"' + sha256(content) + '"');
    exchange.getResponseHeaders().set("X-Linked-Size", Integer.toString(content.length));
    exchange
        .getResponseHeaders()
        .set(
            "Location",
            "http://127.0.0.1:%d/content/%s".formatted(contentHost.getAddress().getPort(), name));
    exchange.sendResponseHeaders(302, -1);
  }

  private void answerAsContentHost(HttpExchange exchange) throws IOException {
    try (exchange) {
      record(exchange, true);
      String name = exchange.getRequestURI().getPath().substring("/content/".length());
      // The content host has ETags of its own.
      answer(exchange, name, files.get(name).content(), Optional.of("stored-" + name.hashCode()));
    }
  }

  private void answer(HttpExchange exchange, String name, byte[] content, Optional<String> etag)
      throws IOException {
    Fault fault;
    synchronized (this) {
      fault = faults.getOrDefault(name, new ArrayDeque<>()).poll();
    }
    if (fault != null) {
      fault.answer(exchange, content);
    } else {
      whole(exchange, content, '"' + etag.orElse("none") + '"');
    }
  }

  private static void whole(HttpExchange exchange, byte[] content, String etag) throws IOException {
    int offset = offset(exchange, etag);
    head(exchange, content, offset, etag);
    if (!exchange.getRequestMethod().equals("HEAD")) {
      exchange.getResponseBody().write(content, offset, content.length - offset);
    }
  }

  /** Where the answer begins: Range counts if there is no If-Range or if that is the ETag. */
  private static int offset(HttpExchange exchange, String etag) {
    String range = exchange.getRequestHeaders().getFirst("Range");
    String condition = exchange.getRequestHeaders().getFirst("If-Range");
    if (range == null || (condition != null && !condition.equals(etag))) {
      return 0;
    }
    return Integer.parseInt(range.replaceAll("bytes=(\\d+)-", "$1"));
  }

  private static void head(HttpExchange exchange, byte[] content, int offset, String etag)
      throws IOException {
    exchange.getResponseHeaders().set("ETag", etag);
    if (offset > 0) {
      exchange
          .getResponseHeaders()
          .set(
              "Content-Range",
              "bytes %d-%d/%d".formatted(offset, content.length - 1, content.length));
    }
    if (exchange.getRequestMethod().equals("HEAD")) {
      exchange.getResponseHeaders().set("Content-Length", Integer.toString(content.length));
      exchange.sendResponseHeaders(200, -1);
    } else {
      int length = content.length - offset;
      exchange.sendResponseHeaders(offset > 0 ? 206 : 200, length == 0 ? -1 : length);
    }
  }

  private synchronized byte[] json() {
    ObjectNode root = JsonNodeFactory.instance.objectNode();
    root.put("id", repo).put("sha", COMMIT);
    ArrayNode siblings = root.putArray("siblings");
    files.forEach(
        (path, stored) -> {
          ObjectNode sibling = siblings.addObject().put("rfilename", path);
          if (!bare) {
            sibling.put("size", stored.content().length).put("blobId", gitId(stored.content()));
          }
          if (stored.large() && !bare) {
            sibling
                .putObject("lfs")
                .put("sha256", sha256(stored.content()))
                .put("size", stored.content().length)
                .put("pointerSize", 130);
          }
          sibling.setAll(overrides.getOrDefault(path, JsonNodeFactory.instance.objectNode()));
        });
    return root.toString().getBytes(StandardCharsets.UTF_8);
  }

  private synchronized void record(HttpExchange exchange, boolean toContentHost) {
    Map<String, String> headers = new HashMap<>();
    exchange
        .getRequestHeaders()
        .forEach((name, values) -> headers.put(name.toLowerCase(Locale.ROOT), values.getFirst()));
    requests.add(
        new Request(
            toContentHost,
            exchange.getRequestMethod(),
            exchange.getRequestURI().getRawPath(),
            headers));
  }

  @Override
  public void close() {
    hub.stop(0);
    contentHost.stop(0);
    threads.shutdownNow();
  }
}
