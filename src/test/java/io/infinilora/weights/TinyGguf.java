package io.infinilora.weights;

import java.nio.file.Path;
import java.util.List;

/** The smallest models that exercise everything: 1 layer, hidden 16, 2 heads of 8, 1 key head. */
public final class TinyGguf {

  static final int HIDDEN = 16;
  static final int VOCAB = 6;

  private TinyGguf() {}

  /** Writes {@link #of} to a file. */
  public static Path write(String architecture, Path file) {
    return of(architecture).write(file);
  }

  /** A sound file of this architecture, with tied embeddings and a vocabulary. */
  static GgufBuilder of(String architecture) {
    GgufBuilder builder =
        new GgufBuilder()
            .text("general.architecture", architecture)
            .uint32(architecture + ".block_count", 1)
            .uint32(architecture + ".context_length", 64)
            .uint32(architecture + ".embedding_length", HIDDEN)
            .uint32(architecture + ".feed_forward_length", 32)
            .uint32(architecture + ".attention.head_count", 2)
            .uint32(architecture + ".attention.head_count_kv", 1)
            .float32(architecture + ".attention.layer_norm_rms_epsilon", 1e-5f)
            .float32(architecture + ".rope.freq_base", 5000)
            .text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", "smollm")
            .texts("tokenizer.ggml.tokens", List.of("<s>", "</s>", "a", "b", "ab", "<end>"))
            .int32s("tokenizer.ggml.token_type", 3, 3, 1, 1, 1, 3)
            .texts("tokenizer.ggml.merges", List.of("a b"))
            .uint32("tokenizer.ggml.bos_token_id", 0)
            .uint32("tokenizer.ggml.eos_token_id", 1)
            .text("tokenizer.chat_template", "{{ messages }}");
    builder
        .floats("token_embd.weight", new long[] {VOCAB, HIDDEN})
        .floats("output_norm.weight", new long[] {HIDDEN})
        .floats("blk.0.attn_norm.weight", new long[] {HIDDEN})
        .floats("blk.0.attn_q.weight", new long[] {16, HIDDEN})
        .floats("blk.0.attn_k.weight", new long[] {8, HIDDEN})
        .floats("blk.0.attn_v.weight", new long[] {8, HIDDEN})
        .floats("blk.0.attn_output.weight", new long[] {HIDDEN, 16})
        .floats("blk.0.ffn_norm.weight", new long[] {HIDDEN})
        .floats("blk.0.ffn_gate.weight", new long[] {32, HIDDEN})
        .floats("blk.0.ffn_up.weight", new long[] {32, HIDDEN})
        .floats("blk.0.ffn_down.weight", new long[] {HIDDEN, 32});
    return builder;
  }
}
