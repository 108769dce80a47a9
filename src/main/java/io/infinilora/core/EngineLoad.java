package io.infinilora.core;

/**
 * Load of one base-model instance.
 *
 * @param running sequences that hold KV blocks
 * @param waiting requests that wait for admission
 * @param kvBlocksUsed blocks held by running sequences (cached, unreferenced blocks do not count)
 * @param kvBlocksTotal all blocks
 * @param adaptersInUse adapters held by running sequences
 */
public record EngineLoad(
    int running, int waiting, int kvBlocksUsed, int kvBlocksTotal, int adaptersInUse) {}
