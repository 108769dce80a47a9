package io.infinilora.backend.cuda;

/**
 * Tiles in device memory.
 *
 * @param rows address of their rows
 * @param names address of their tables' names, {@code [table][capacity]}
 * @param capacity tiles, those without rows included
 */
record DeviceTiles(long rows, long names, int capacity) {}
