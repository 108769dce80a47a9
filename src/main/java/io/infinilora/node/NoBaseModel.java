package io.infinilora.node;

import io.infinilora.core.AdapterId;
import io.infinilora.core.Engine;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TokenEvent;
import io.smallrye.mutiny.Multi;
import java.util.List;

/** What a process has for an engine that has adapters and no base model. */
record NoBaseModel(ModelSpec model) implements Engine {

  @Override
  public Multi<TokenEvent> generate(GenerateRequest request) {
    return Multi.createFrom()
        .failure(
            () ->
                new InfiniLoraException(
                    ErrorCode.UNAVAILABLE, "this process is a LoRA server, without a base model"));
  }

  @Override
  public int contextLength() {
    return model.maxPositions();
  }

  @Override
  public List<AdapterId> adapters() {
    return List.of();
  }

  @Override
  public EngineLoad load() {
    return new EngineLoad(0, 0, 0, 0, 0);
  }
}
