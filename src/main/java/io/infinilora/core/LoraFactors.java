package io.infinilora.core;

/**
 * The low-rank pair of one target (of one expert, where they are routed) as it lies in the adapter
 * file: {@code delta = scale * B (A x)}.
 *
 * @param a {@code [rank, in]}
 * @param b {@code [out, rank]}
 * @param scale alpha / rank, or alpha / sqrt(rank) for rsLoRA
 */
public record LoraFactors(WeightMatrix a, WeightMatrix b, float scale) {}
