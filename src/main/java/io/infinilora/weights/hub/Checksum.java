package io.infinilora.weights.hub;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Locale;
import java.util.Optional;
import java.util.regex.Pattern;

/**
 * What a file's content must hash to. The hub states SHA-256 for files in large-file storage and
 * git's blob id for the others; as its tools do, the cache names a file by it.
 *
 * @param hex lower case: 64 digits for SHA-256, 40 for a git blob id
 */
record Checksum(String hex) {
  private static final Pattern FORM = Pattern.compile("[0-9a-f]{64}|[0-9a-f]{40}");
  private static final int SHA256_DIGITS = 64;

  /** A checksum, unless the text is none. */
  static Optional<Checksum> of(String text) {
    String hex = text.toLowerCase(Locale.ROOT);
    return FORM.matcher(hex).matches() ? Optional.of(new Checksum(hex)) : Optional.empty();
  }

  /** The checksum in an {@code ETag} header: quoted, possibly weak. */
  static Optional<Checksum> ofEtag(String etag) {
    return of(etag.strip().replaceFirst("^W/", "").replace("\"", ""));
  }

  /** A digest to which the content of a file of {@code size} bytes is added. */
  MessageDigest start(long size) {
    try {
      if (hex.length() == SHA256_DIGITS) {
        return MessageDigest.getInstance("SHA-256");
      }
      MessageDigest digest = MessageDigest.getInstance("SHA-1");
      digest.update(("blob " + size + "\0").getBytes(StandardCharsets.US_ASCII));
      return digest;
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e); // Every Java platform has both.
    }
  }

  /** Whether the digest, which is reset, is this one. */
  boolean matches(MessageDigest digest) {
    return HexFormat.of().formatHex(digest.digest()).equals(hex);
  }
}
