/**
 * Discrete-event runs of the real scheduler: synthetic traffic, a cost per step instead of a model,
 * a virtual clock. Deterministic by seed.
 */
package io.infinilora.simulator;
