package io.infinilora.backend.cuda;

import java.util.List;

/**
 * One adapter's pairs of all experts at one routed site, placed in a layout.
 *
 * @param experts null for absent ones
 * @param outs output features per target; 0 if no expert has it
 * @param in input features
 * @param bytes of matrices that no site before it has
 * @param table place of the array of the experts' tables
 */
record LoraExpertsPlan(List<LoraSitePlan> experts, int[] outs, int in, long bytes, long table) {}
