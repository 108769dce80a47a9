package io.infinilora.api.text;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TextAssets;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.stream.IntStream;

/**
 * A tokenizer by Hugging Face's library, through DJL's binding. Text becomes ids in native code;
 * ids become text here, from the table of tokens, since a stream needs the bytes of single tokens.
 *
 * <p>The binding's native library lies inside its jar and is extracted below {@code DJL_CACHE_DIR}
 * (default {@code ~/.djl.ai}). Its download of other flavours and its usage report are switched
 * off.
 */
public final class HuggingFaceTokenizer implements Tokenizer {
  static {
    // Read by the binding when its classes are first used: no network, whatever the machine has.
    System.setProperty("ai.djl.offline", "true");
    System.setProperty("OPT_OUT_TRACKING", "true");
    System.setProperty("RUST_FLAVOR", System.getProperty("RUST_FLAVOR", "cpu"));
  }

  private final ai.djl.huggingface.tokenizers.HuggingFaceTokenizer library;
  private final TokenTable table;

  /**
   * A tokenizer from the text of a tokenizer.json.
   *
   * @param source named in errors
   * @throws InfiniLoraException {@code BAD_MODEL_FILE} if the text is not a tokenizer
   */
  public HuggingFaceTokenizer(String json, String source) {
    table = new TokenTable(json, source);
    try {
      library =
          ai.djl.huggingface.tokenizers.HuggingFaceTokenizer.newInstance(
              new ByteArrayInputStream(json.getBytes(StandardCharsets.UTF_8)),
              Map.of("truncation", "false", "padding", "false"));
    } catch (IOException | RuntimeException e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_MODEL_FILE, source + ": not a tokenizer: " + e.getMessage(), e);
    }
  }

  /**
   * The tokenizer of a checkpoint: of its tokenizer.json if it has one, else of the vocabulary in
   * its metadata, else empty.
   *
   * @throws InfiniLoraException {@code BAD_MODEL_FILE} if there is one but it cannot be used
   */
  public static Optional<Tokenizer> of(TextAssets assets) {
    if (assets.tokenizerJson().isPresent()) {
      Path file = assets.tokenizerJson().get();
      try {
        return Optional.of(new HuggingFaceTokenizer(Files.readString(file), file.toString()));
      } catch (IOException e) {
        throw new InfiniLoraException(
            ErrorCode.BAD_MODEL_FILE, file + ": cannot be read: " + e.getMessage(), e);
      }
    }
    return assets
        .vocabulary()
        .map(v -> new HuggingFaceTokenizer(TokenizerJson.of(v, assets), "GGUF vocabulary"));
  }

  @Override
  public int[] encode(String text, boolean addSpecial) {
    long[] ids = library.encode(text, addSpecial, false).getIds();
    int[] tokens = new int[ids.length];
    for (int i = 0; i < ids.length; i++) {
      tokens[i] = Math.toIntExact(ids[i]);
    }
    return tokens;
  }

  @Override
  public String decode(int[] tokens) {
    Detokenizer detokenizer = new Detokenizer(this);
    StringBuilder text = new StringBuilder();
    IntStream.of(tokens).forEach(t -> text.append(detokenizer.append(t)));
    return text.append(detokenizer.finish()).toString();
  }

  @Override
  public byte[] bytes(int token) {
    return table.bytes(token);
  }

  @Override
  public boolean special(int token) {
    return table.special(token);
  }

  @Override
  public OptionalInt id(String token) {
    Integer id = table.id(token);
    return id == null ? OptionalInt.empty() : OptionalInt.of(id);
  }

  @Override
  public int vocabSize() {
    return table.size();
  }
}
