/**
 * Base-model instances: the step loop, its driver thread, and the ways in which a step gets its
 * LoRA deltas.
 */
package io.infinilora.engine;
