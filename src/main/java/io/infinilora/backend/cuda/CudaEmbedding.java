package io.infinilora.backend.cuda;

import io.infinilora.backend.Embedding;

/**
 * An embedding table in bf16.
 *
 * @param stride elements from a row to the next, a multiple of 8
 */
record CudaEmbedding(CudaBackend owner, long address, int vocab, int hidden, int stride)
    implements Embedding {}
