package io.infinilora.weights.hub;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import java.net.URI;
import java.net.http.HttpHeaders;
import java.util.List;
import java.util.stream.Collectors;

/** Failures of the hub in words that say what to do. */
final class HubErrors {
  private static final int MAX_SHOWN = 200;
  private static final int MAX_NAMES = 40;

  private HubErrors() {}

  /** An error about a repository. */
  static InfiniLoraException of(HubReference reference, String message) {
    return of(reference, message, null);
  }

  /** An error about a repository, with its cause. */
  static InfiniLoraException of(HubReference reference, String message, Throwable cause) {
    return new InfiniLoraException(ErrorCode.DOWNLOAD_FAILED, reference + ": " + message, cause);
  }

  /**
   * An error for an answer that is neither success nor worth another try.
   *
   * @param what what was asked for: the listing or a file
   */
  static InfiniLoraException status(
      HubReference reference,
      URI endpoint,
      boolean withToken,
      String what,
      int status,
      HttpHeaders headers) {
    String code = headers.firstValue("X-Error-Code").orElse("");
    String said =
        headers
            .firstValue("X-Error-Message")
            .map(text -> " (the hub says: " + shown(text) + ")")
            .orElse("");
    String message =
        switch (status) {
          case 401 ->
              withToken
                  ? "the hub does not accept the token (HTTP 401), or there is no such repository;"
                      + " check HF_TOKEN"
                  : "the hub wants a token (HTTP 401): the repository is private or gated, or there"
                      + " is none of this name; set HF_TOKEN to a token with access to it";
          case 403 ->
              "no access (HTTP 403): "
                  + (withToken ? "the token in HF_TOKEN does not have it" : "HF_TOKEN is not set")
                  + "; if the repository is gated, ask for access at "
                  + endpoint
                  + "/"
                  + reference.repo();
          case 404 ->
              switch (code) {
                case "RevisionNotFound" -> "there is no revision \"" + reference.revision() + "\"";
                case "EntryNotFound" -> "there is no " + what;
                default ->
                    "not found (HTTP 404): there is no repository %s with a revision \"%s\" at %s"
                        .formatted(reference.repo(), reference.revision(), endpoint);
              };
          default -> "%s was answered with HTTP %d".formatted(what, status);
        };
    return of(reference, message + said);
  }

  /** Names of files, not too many of them. */
  static String shown(List<String> files) {
    String text =
        files.stream().limit(MAX_NAMES).map(HubErrors::shown).collect(Collectors.joining(", "));
    return files.size() > MAX_NAMES
        ? text + " and %d more".formatted(files.size() - MAX_NAMES)
        : text;
  }

  /** Text of a server, made fit for a terminal. */
  static String shown(String text) {
    String cut = text.length() <= MAX_SHOWN ? text : text.substring(0, MAX_SHOWN) + "...";
    return cut.replaceAll("\\p{C}", "?");
  }
}
