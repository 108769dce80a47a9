/**
 * What is measured, under which name. The interfaces have no-op defaults, so that the engine can be
 * used without a registry; {@link io.infinilora.metrics.PrometheusMetrics} implements them all and
 * lists the names.
 */
package io.infinilora.metrics;
