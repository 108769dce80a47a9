package io.infinilora.weights.hub;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.infinilora.core.HubReference;
import io.infinilora.core.JsonProblem;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * The files of a repository at one commit.
 *
 * @param commit 40 hexadecimal digits
 * @param files by path; empty where a mirror's answer lacks size or checksum, which the file's own
 *     headers then tell
 */
record Listing(String commit, Map<String, Optional<RemoteFile>> files) {
  private static final ObjectMapper MAPPER = new ObjectMapper();

  /** The paths. */
  Set<String> paths() {
    return files.keySet();
  }

  /**
   * Reads the answer of {@code /api/models/REPO/revision/REVISION?blobs=true}. A name that points
   * out of the repository discredits the whole answer.
   */
  static Listing parse(HubReference reference, byte[] json) {
    JsonNode root;
    try {
      root = MAPPER.readTree(json);
    } catch (JsonProcessingException e) {
      throw HubErrors.of(
          reference,
          "the hub's answer is not valid JSON: " + JsonProblem.of(e.getOriginalMessage()));
    } catch (IOException e) {
      throw HubErrors.of(reference, "the hub's answer is not valid JSON: " + e.getMessage());
    }
    String commit = root.path("sha").asText();
    if (!HubReference.isCommit(commit)) {
      throw HubErrors.of(reference, "the hub's answer names no commit (sha)");
    }
    Map<String, Optional<RemoteFile>> files = new LinkedHashMap<>();
    for (JsonNode sibling : root.path("siblings")) {
      String path = sibling.path("rfilename").asText();
      if (!HubReference.isFile(path)) {
        throw HubErrors.of(
            reference,
            "the hub lists a file by the name \"%s\", which is not allowed; nothing was downloaded"
                .formatted(HubErrors.shown(path)));
      }
      files.put(path, file(path, sibling));
    }
    return new Listing(commit, files);
  }

  private static Optional<RemoteFile> file(String path, JsonNode sibling) {
    JsonNode lfs = sibling.path("lfs");
    JsonNode size = lfs.has("size") ? lfs.path("size") : sibling.path("size");
    String checksum =
        lfs.isObject()
            ? lfs.path(lfs.has("sha256") ? "sha256" : "oid").asText().replaceFirst("^sha256:", "")
            : sibling.path("blobId").asText();
    return Checksum.of(checksum)
        .filter(known -> size.canConvertToLong() && size.isIntegralNumber() && size.asLong() >= 0)
        .map(known -> new RemoteFile(path, size.asLong(), known));
  }
}
