package io.infinilora.api;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.AdapterProof;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.LoraTarget;
import java.util.Locale;

/** Adapters as {@code /v1/lora_adapters} and dry runs show them. */
final class AdapterJson {
  private AdapterJson() {}

  /** What an adapter is and where it lies. */
  static ObjectNode status(AdapterStatus status) {
    ObjectNode json =
        JsonNodeFactory.instance
            .objectNode()
            .put("id", status.id().name())
            .put("digest", status.id().digest())
            .put("source", status.source());
    ArrayNode targets = json.putArray("targets");
    status.targets().stream().sorted().forEach(t -> targets.add(name(t)));
    return json.put("max_rank", status.maxRank())
        .put("file_bytes", status.fileBytes())
        .put("device_bytes", status.deviceBytes())
        .put("tier", status.tier().name().toLowerCase(Locale.ROOT))
        .put("pinned", status.pinned())
        .put("claims", status.claims());
  }

  /** What a dry run has shown. */
  static ObjectNode proof(AdapterProof proof) {
    AdapterStatus status = proof.status();
    ObjectNode json =
        JsonNodeFactory.instance
            .objectNode()
            .put("dry_run", true)
            .put("id", status.id().name())
            .put("digest", status.id().digest())
            .put("max_rank", status.maxRank());
    ObjectNode tensors = json.putObject("matched_tensors");
    ObjectNode byTarget = JsonNodeFactory.instance.objectNode();
    int count = 0;
    for (var entry : proof.tensors().entrySet()) {
      byTarget.put(name(entry.getKey()), entry.getValue());
      count += entry.getValue();
    }
    tensors.put("count", count).set("by_target", byTarget);
    // Host memory holds the same packed pages as device memory.
    json.putObject("bytes")
        .put("disk", status.fileBytes())
        .put("host", status.deviceBytes())
        .put("device", status.deviceBytes());
    ArrayNode norms = json.putArray("delta_norms");
    proof
        .norms()
        .forEach(
            n ->
                norms
                    .addObject()
                    .put("layer", n.layer())
                    .put("target", name(n.target()))
                    .put("norm", n.norm()));
    proof.logprobChange().ifPresent(change -> json.put("max_logprob_change", change));
    return json;
  }

  private static String name(LoraTarget target) {
    return target.name().toLowerCase(Locale.ROOT);
  }
}
