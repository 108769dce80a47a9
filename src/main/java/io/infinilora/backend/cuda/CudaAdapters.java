package io.infinilora.backend.cuda;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraImage;
import io.infinilora.backend.LoraMemory;
import io.infinilora.backend.LoraWeights;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import java.util.List;

/** Stub. */
final class CudaAdapters {
  CudaAdapters(CudaBackend owner, CudaDevice device) {}

  LoraWeights loraWeights(List<LoraFactors> targets) {
    throw new UnsupportedOperationException();
  }

  ExpertLoraWeights expertLoraWeights(List<List<LoraFactors>> experts) {
    throw new UnsupportedOperationException();
  }

  void free(LoraWeights lora) {}

  void free(ExpertLoraWeights lora) {}

  LoraMemory memory(long bytes) {
    throw new UnsupportedOperationException();
  }

  int pages(LayerFactors factors) {
    return 0;
  }

  LoraImage image(LayerFactors factors) {
    throw new UnsupportedOperationException();
  }
}
