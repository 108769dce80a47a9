package io.infinilora.config;

import java.net.URI;
import java.nio.file.Path;
import java.util.Objects;
import java.util.Optional;

/**
 * The Hugging Face hub that {@code hf:} references mean.
 *
 * @param endpoint the hub or a mirror of it: http or https, without a trailing slash
 * @param cache directory of downloads in the layout of the huggingface_hub library; empty for that
 *     library's default
 * @param offline whether nothing but the cache is used
 * @param token access token, sent to {@code endpoint} and nowhere else
 */
public record HubConfig(
    URI endpoint, Optional<Path> cache, boolean offline, Optional<Secret> token) {

  /** The public hub. */
  public static final URI DEFAULT_ENDPOINT = URI.create("https://huggingface.co");

  /** All defaults. */
  public static final HubConfig DEFAULTS =
      new HubConfig(DEFAULT_ENDPOINT, Optional.empty(), false, Optional.empty());

  /** Rejects addresses that are not a plain http or https base address. */
  public HubConfig {
    Objects.requireNonNull(cache);
    Objects.requireNonNull(token);
    boolean http = "http".equals(endpoint.getScheme()) || "https".equals(endpoint.getScheme());
    if (!http
        || endpoint.getHost() == null
        || endpoint.getRawUserInfo() != null
        || endpoint.getRawQuery() != null
        || endpoint.getRawFragment() != null) {
      throw Check.error(
          "hub.endpoint must be an http or https address with a host and without user, query or"
              + " fragment");
    }
    endpoint = URI.create(endpoint.toString().replaceAll("/+$", ""));
  }

  /** {@link #cache}, or the library's default below the home directory. */
  public Path cacheOrDefault() {
    return cache.orElseGet(
        () -> Path.of(System.getProperty("user.home"), ".cache", "huggingface", "hub"));
  }
}
