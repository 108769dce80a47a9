package io.infinilora.engine;

import java.time.Duration;

/**
 * How long a base-model instance waits for its LoRA side.
 *
 * @param step how long a step may take before its LoRA side is given up
 * @param adapter how long a request may wait for its adapter to get into memory
 * @param retry how long a request is tried again after its LoRA side failed; zero for not at all
 */
public record Patience(Duration step, Duration adapter, Duration retry) {}
