package io.infinilora.model;

import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.LoraSite;

/**
 * What the model code sees of LoRA, whatever computes it. At each site the model publishes the
 * site's input, runs the base projection meanwhile, and then joins the delta. Sites come in the
 * order of {@link LoraSite}, layers ascending, each exactly once per step, but for those that
 * nobody {@link #reads}. One port serves one step, on the driver thread.
 */
public interface LoraPort {

  /** Does nothing: no row of the step uses an adapter. */
  LoraPort NONE =
      new LoraPort() {
        @Override
        public boolean reads(int layer, LoraSite site) {
          return false;
        }

        @Override
        public void publish(int layer, LoraSite site, Tensor x) {}

        @Override
        public void join(int layer, LoraSite site, Tensor x, Tensor... outs) {}

        @Override
        public void publishRouted(int layer, LoraSite site, Tensor x, Routing routing) {}

        @Override
        public void joinRouted(
            int layer, LoraSite site, Tensor x, Routing routing, Tensor... outs) {}
      };

  /**
   * Whether something is computed of a site's input in this step. Where it is not, the model may
   * leave the site out.
   *
   * @throws io.infinilora.core.InfiniLoraException as {@link #join}
   */
  boolean reads(int layer, LoraSite site);

  /**
   * The site's input is complete.
   *
   * @param x {@code [rows, in]}; unchanged until the matching {@link #join}
   */
  void publish(int layer, LoraSite site, Tensor x);

  /**
   * Adds the deltas to the base projections.
   *
   * @param x the same tensor as published
   * @param outs one per target of the site, {@code [rows, out]}, already holding the base
   *     projections
   * @throws io.infinilora.core.InfiniLoraException DEADLINE_EXCEEDED if a delta does not arrive in
   *     time; the step is lost
   */
  void join(int layer, LoraSite site, Tensor x, Tensor... outs);

  /**
   * The input of a routed site is complete.
   *
   * @param site {@code MLP_IN} or {@code MLP_OUT}, of a layer with experts
   * @param x {@code [rows, in]} for {@code MLP_IN}, {@code [rows * topK, in]} for {@code MLP_OUT};
   *     unchanged until the matching {@link #joinRouted}
   * @param routing the layer's routing, the same at both sites; likewise unchanged
   */
  void publishRouted(int layer, LoraSite site, Tensor x, Routing routing);

  /**
   * Adds the deltas to the experts' projections: per routed row at {@code MLP_IN}, summed with the
   * routing's weights at {@code MLP_OUT}.
   *
   * @param outs one per target of the site: {@code [rows * topK, out]} for {@code MLP_IN}, {@code
   *     [rows, out]} for {@code MLP_OUT}
   * @throws io.infinilora.core.InfiniLoraException as {@link #join}
   */
  void joinRouted(int layer, LoraSite site, Tensor x, Routing routing, Tensor... outs);
}
