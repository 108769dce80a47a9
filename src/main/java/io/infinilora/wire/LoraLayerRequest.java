package io.infinilora.wire;

/**
 * Asks the LoRA Server for the deltas of all sites of one layer. Posted one-way, ahead of the
 * layer; the signals of the step's exchange say when activations and deltas are ready.
 *
 * @param step what the layers of the step share
 * @param layer decoder layer
 */
public record LoraLayerRequest(LoraStep step, int layer) {}
