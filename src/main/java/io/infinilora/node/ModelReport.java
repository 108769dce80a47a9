package io.infinilora.node;

import io.infinilora.core.ModelSpec;
import io.infinilora.core.TextAssets;
import io.infinilora.weights.Checkpoint;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * What a model is and what it takes to serve it. Bytes of weights are those of the file; in memory
 * they are about as many.
 *
 * @param source format, place and size of the files
 * @param architecture Hugging Face model type
 * @param layers decoder layers
 * @param hidden width of the residual stream
 * @param heads query heads
 * @param kvHeads key and value heads
 * @param headDim elements of a head
 * @param intermediate width of the feed-forward block, of one expert if there are several
 * @param experts routed experts of a layer; 0 for a dense model
 * @param expertsPerToken how many of them a token goes through
 * @param parameters number of parameters
 * @param activeParameters those that a token goes through: all but the experts not chosen for it
 * @param bytesByType bytes of the weights, by element type
 * @param bytesByLayer bytes of the weights of each layer
 * @param bytesOutsideLayers embedding, final norm and output head
 * @param kvBytesPerToken keys and values of one token in all layers
 * @param context longest context that the model was made for
 * @param slidingWindow shortest sliding window of any layer; 0 if all have full attention
 * @param vocabulary rows of the embedding table
 * @param tokenizer where the tokenizer comes from, or null if there is none
 * @param chatTemplate whether there is one
 */
public record ModelReport(
    String source,
    String architecture,
    int layers,
    int hidden,
    int heads,
    int kvHeads,
    int headDim,
    int intermediate,
    int experts,
    int expertsPerToken,
    long parameters,
    long activeParameters,
    Map<String, Long> bytesByType,
    List<Long> bytesByLayer,
    long bytesOutsideLayers,
    long kvBytesPerToken,
    int context,
    int slidingWindow,
    int vocabulary,
    String tokenizer,
    boolean chatTemplate) {

  /** Describes an opened model. */
  public static ModelReport of(Checkpoint checkpoint) {
    ModelSpec spec = checkpoint.spec();
    ModelSpec.Moe moe = spec.mlp().moe();
    WeightTally tally = new WeightTally(checkpoint);
    tally.addOutsideLayers();
    long outside = tally.bytes();
    List<Long> byLayer = new ArrayList<>();
    for (int layer = 0; layer < spec.layers(); layer++) {
      long before = tally.bytes();
      tally.addLayer(layer);
      byLayer.add(tally.bytes() - before);
    }
    return new ModelReport(
        checkpoint.describe(),
        spec.architecture(),
        spec.layers(),
        spec.hidden(),
        spec.attention().heads(),
        spec.attention().kvHeads(),
        spec.attention().headDim(),
        spec.mlp().intermediate(),
        moe == null ? 0 : moe.experts(),
        moe == null ? 0 : moe.topK(),
        tally.parameters(),
        tally.activeParameters(),
        tally.bytesByType(),
        byLayer,
        outside,
        2L * spec.layers() * spec.attention().kvWidth() * Float.BYTES,
        spec.maxPositions(),
        spec.attention().windows().stream().filter(w -> w > 0).min(Integer::compare).orElse(0),
        spec.vocab(),
        tokenizer(checkpoint.text()),
        checkpoint.text().chatTemplate().isPresent());
  }

  /** Bytes of all weights. */
  public long bytes() {
    return bytesOutsideLayers + bytesByLayer.stream().mapToLong(Long::longValue).sum();
  }

  private static String tokenizer(TextAssets text) {
    return text.tokenizerJson()
        .map(file -> file.getFileName().toString())
        .or(() -> text.vocabulary().map(v -> "GGUF, " + v.preTokenizer()))
        .orElse(null);
  }
}
