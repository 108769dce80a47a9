package io.infinilora.api;

import io.infinilora.api.text.ChatTemplate;
import io.infinilora.api.text.Tokenizer;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoad;
import io.infinilora.core.AdapterRegistry;
import io.infinilora.core.Engine;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * A base model as the front end serves it.
 *
 * @param id the name that requests use for the base model
 * @param root where it came from, as {@code /v1/models} reports it
 * @param engine generates
 * @param registry changes the adapters
 * @param tokenizer empty for checkpoints without one, which take and return token ids only
 * @param chatTemplate empty for checkpoints without one, which have no chat completions
 */
public record ServedModel(
    String id,
    String root,
    Engine engine,
    AdapterRegistry registry,
    Optional<Tokenizer> tokenizer,
    Optional<ChatTemplate> chatTemplate) {

  /** Rejects nulls. */
  public ServedModel {
    Objects.requireNonNull(id);
    Objects.requireNonNull(root);
    Objects.requireNonNull(engine);
    Objects.requireNonNull(registry);
    Objects.requireNonNull(tokenizer);
    Objects.requireNonNull(chatTemplate);
  }

  /** A model whose adapters cannot be changed. */
  public ServedModel(
      String id,
      String root,
      Engine engine,
      Optional<Tokenizer> tokenizer,
      Optional<ChatTemplate> chatTemplate) {
    this(id, root, engine, AdapterRegistry.FIXED, tokenizer, chatTemplate);
  }

  /** The adapters that requests may name. */
  List<AdapterId> adapters() {
    return engine.adapters().stream().filter(a -> !AdapterLoad.isDryRun(a.name())).toList();
  }

  /**
   * The adapter that a request's {@code model} names; empty for the base model.
   *
   * @throws InfiniLoraException {@code MODEL_NOT_FOUND}
   */
  Optional<String> adapterOf(String model) {
    if (model.equals(id)) {
      return Optional.empty();
    }
    if (!AdapterLoad.isDryRun(model) && engine.adapter(model).isPresent()) {
      return Optional.of(model);
    }
    throw new InfiniLoraException(
        ErrorCode.MODEL_NOT_FOUND, "The model '%s' does not exist".formatted(model));
  }

  /**
   * Refuses what needs a tokenizer if there is none.
   *
   * @throws InfiniLoraException {@code INVALID_REQUEST}
   */
  void requireTokenizerFor(ApiRequest request) {
    if (tokenizer.isEmpty() && !request.stop().isEmpty()) {
      throw new InvalidFieldException(
          "stop", "needs a tokenizer, which model %s does not have".formatted(id));
    }
  }
}
