package io.infinilora.backend.cuda;

import java.util.Optional;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Dense products of so many rows that arithmetic is the limit, not the weights' bytes. */
interface ManyRowsMatrix extends AutoCloseable {

  /** {@code y = x W^T + b}, like {@link FewRows#multiply}. */
  void multiply(
      CudaTensor x, int rows, long weights, long bias, int features, int in, CudaTensor y);

  /** Frees what it holds; the stream must have passed all products. */
  @Override
  void close();

  /** By the cuBLASLt of this machine; without one, by a slower kernel of our own. */
  static ManyRowsMatrix open(CudaStream stream) {
    Logger log = LoggerFactory.getLogger(ManyRowsMatrix.class);
    if (stream.device().machineCodeIgnored()) {
      log.warn("prompts will be read slowly: cuBLASLt has machine code only, which is ignored");
      return new PortableRows(stream);
    }
    Optional<CublasLt> blas = stream.device().blas();
    if (blas.isPresent()) {
      return new CublasRows(stream, blas.get());
    }
    log.warn(
        "no cuBLASLt was found, prompts will be read slowly; looked for {}", CublasLt.places());
    return new PortableRows(stream);
  }
}
