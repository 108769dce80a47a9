package io.infinilora.backend;

import io.infinilora.core.ModelSpec;

/**
 * Parameters of one norm of rows.
 *
 * @param kind which norm
 * @param weight a factor per column
 * @param eps keeps the divisor from being 0
 */
public record NormParams(ModelSpec.Norm kind, Vec weight, float eps) {}
