package io.infinilora.backend;

/**
 * Shape of a {@link KvCache}.
 *
 * @param layers decoder layers
 * @param blocks number of blocks
 * @param blockSize positions per block
 * @param kvHeads key/value heads
 * @param headDim elements per head
 */
public record KvLayout(int layers, int blocks, int blockSize, int kvHeads, int headDim) {}
