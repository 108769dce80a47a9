package io.infinilora.weights.hub;

import io.infinilora.config.HubConfig;
import io.infinilora.core.HubReference;
import java.io.IOException;
import java.net.ConnectException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpHeaders;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.Flow;
import java.util.stream.Collectors;

/**
 * Requests to a hub, one try each. Follows redirections itself, since the token must not go along
 * to another host. Thread-safe.
 */
final class HubClient implements AutoCloseable {
  private static final Duration CONNECT_TIMEOUT = Duration.ofSeconds(30);
  private static final Duration HEAD_TIMEOUT = Duration.ofSeconds(60);
  private static final int MAX_HOPS = 10;
  private static final int MAX_LISTING_BYTES = 32 << 20;
  private static final Set<Integer> REDIRECTIONS = Set.of(301, 302, 303, 307, 308);
  private static final Set<Integer> TRANSIENT = Set.of(408, 429, 500, 502, 503, 504);

  private final HubConfig config;
  private final HubRuntime runtime;
  private final HttpClient http =
      HttpClient.newBuilder()
          // A connection per file is faster than one for all.
          .version(HttpClient.Version.HTTP_1_1)
          .followRedirects(HttpClient.Redirect.NEVER)
          .connectTimeout(CONNECT_TIMEOUT)
          .build();

  HubClient(HubConfig config, HubRuntime runtime) {
    this.config = config;
    this.runtime = runtime;
  }

  /**
   * The files of a repository.
   *
   * @throws IOException if another try may help
   * @throws io.infinilora.core.InfiniLoraException DOWNLOAD_FAILED if none will
   */
  Listing list(HubReference reference) throws IOException, InterruptedException {
    URI uri =
        URI.create(
            "%s/api/models/%s/revision/%s?blobs=true"
                .formatted(config.endpoint(), reference.repo(), encode(reference.revision())));
    try (HubResponse response = send(reference, "list of files", "GET", uri, Map.of())) {
      return Listing.parse(reference, response.body().all(MAX_LISTING_BYTES));
    }
  }

  /** Size and checksum of a file, from the headers of its address. Errors as in {@link #list}. */
  RemoteFile describe(HubReference reference, String commit, String path)
      throws IOException, InterruptedException {
    URI uri = address(reference, commit, path);
    try (HubResponse response = send(reference, path, "HEAD", uri, Map.of())) {
      HttpHeaders headers = response.headers();
      Optional<Checksum> checksum =
          headers
              .firstValue("X-Linked-Etag")
              .or(() -> headers.firstValue("ETag"))
              .flatMap(Checksum::ofEtag);
      Optional<Long> size =
          headers
              .firstValue("X-Linked-Size")
              .or(() -> headers.firstValue("Content-Length"))
              .filter(text -> text.matches("\\d{1,18}"))
              .map(Long::valueOf);
      if (checksum.isEmpty() || size.isEmpty()) {
        throw HubErrors.of(
            reference, path + ": the hub states neither size and checksum in its list nor by ETag");
      }
      return new RemoteFile(path, size.get(), checksum.get());
    }
  }

  /**
   * Content of a file from {@code offset} on, if the server can do that; the status says so (206).
   * Errors as in {@link #list}.
   *
   * @param etag what the file's {@code ETag} must still be for a part to do
   */
  HubResponse open(
      HubReference reference, String commit, RemoteFile file, long offset, Optional<String> etag)
      throws IOException, InterruptedException {
    URI uri = address(reference, commit, file.path());
    if (offset == 0) {
      return send(reference, file.path(), "GET", uri, Map.of());
    }
    String range = "bytes=" + offset + "-";
    return send(
        reference,
        file.path(),
        "GET",
        uri,
        etag.map(tag -> Map.of("Range", range, "If-Range", tag)).orElse(Map.of("Range", range)));
  }

  private HubResponse send(
      HubReference reference, String what, String method, URI start, Map<String, String> headers)
      throws IOException, InterruptedException {
    URI uri = start;
    for (int hop = 0; hop < MAX_HOPS; hop++) {
      HubResponse response = sendOnce(method, uri, headers);
      Optional<String> location = response.headers().firstValue("Location");
      boolean redirection =
          REDIRECTIONS.contains(response.status())
              && location.isPresent()
              // Large files are described by the hub and held elsewhere.
              && !(method.equals("HEAD")
                  && response.headers().firstValue("X-Linked-Etag").isPresent());
      if (!redirection) {
        return checked(reference, what, response, sameOrigin(uri, config.endpoint()));
      }
      response.close();
      uri = target(reference, what, uri, location.get());
    }
    throw HubErrors.of(reference, what + ": more than " + MAX_HOPS + " redirections");
  }

  private HubResponse sendOnce(String method, URI uri, Map<String, String> headers)
      throws IOException, InterruptedException {
    HttpRequest.Builder request =
        HttpRequest.newBuilder(uri)
            .method(method, HttpRequest.BodyPublishers.noBody())
            .timeout(HEAD_TIMEOUT)
            .header("User-Agent", "infinilora")
            .header("Accept-Encoding", "identity");
    headers.forEach(request::header);
    if (config.token().isPresent() && sameOrigin(uri, config.endpoint())) {
      request.header("Authorization", "Bearer " + config.token().get().text());
    }
    try {
      HttpResponse<Flow.Publisher<List<ByteBuffer>>> response =
          http.send(request.build(), HttpResponse.BodyHandlers.ofPublisher());
      return new HubResponse(
          response.statusCode(), response.headers(), Body.of(response.body(), runtime.patience()));
    } catch (ConnectException e) {
      // The client's own message is empty.
      throw new IOException("no connection to " + uri.getAuthority(), e);
    }
  }

  private HubResponse checked(
      HubReference reference, String what, HubResponse response, boolean byTheHub)
      throws IOException {
    int status = response.status();
    if (status / 100 == 2 || status == 416 || REDIRECTIONS.contains(status)) {
      return response;
    }
    response.close();
    if (TRANSIENT.contains(status)) {
      throw new TransientFailure(
          status == 429 ? "too many requests (HTTP 429)" : "HTTP " + status,
          RetryAfter.of(response.headers(), runtime.clock()));
    }
    if (!byTheHub && status == 403) {
      // Signed addresses expire; the hub gives a new one.
      throw new TransientFailure(
          "the address of the content has expired (HTTP 403)", Optional.empty());
    }
    throw HubErrors.status(
        reference, config.endpoint(), config.token().isPresent(), what, status, response.headers());
  }

  private static URI target(HubReference reference, String what, URI from, String location) {
    URI to;
    try {
      to = from.resolve(location);
    } catch (IllegalArgumentException e) {
      throw HubErrors.of(
          reference, what + ": redirected to \"" + HubErrors.shown(location) + "\"", e);
    }
    boolean secure = "https".equals(to.getScheme());
    boolean plain = "http".equals(to.getScheme()) && !"https".equals(from.getScheme());
    if (to.getHost() == null || !(secure || plain)) {
      throw HubErrors.of(
          reference,
          "%s: redirected to \"%s\", which is refused"
              .formatted(what, HubErrors.shown(to.toString())));
    }
    return to;
  }

  private static boolean sameOrigin(URI a, URI b) {
    return a.getScheme().equals(b.getScheme())
        && a.getHost().equalsIgnoreCase(b.getHost())
        && port(a) == port(b);
  }

  private static int port(URI uri) {
    if (uri.getPort() >= 0) {
      return uri.getPort();
    }
    return uri.getScheme().equals("https") ? 443 : 80;
  }

  private URI address(HubReference reference, String commit, String path) {
    String encoded =
        Arrays.stream(path.split("/")).map(HubClient::encode).collect(Collectors.joining("/"));
    return URI.create(
        "%s/%s/resolve/%s/%s".formatted(config.endpoint(), reference.repo(), commit, encoded));
  }

  private static String encode(String segment) {
    return URLEncoder.encode(segment, StandardCharsets.UTF_8).replace("+", "%20");
  }

  @Override
  public void close() {
    http.shutdownNow();
  }
}
