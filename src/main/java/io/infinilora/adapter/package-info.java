/** Adapters in memory: loading, slots, and the grouping of rows that share one. */
package io.infinilora.adapter;
