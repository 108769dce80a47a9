/**
 * The OpenAI-compatible HTTP front end: validation, text, server-sent events with back-pressure,
 * errors, readiness. Runs on Vert.x event loops and talks to the {@link io.infinilora.core.Engine}
 * only.
 */
package io.infinilora.api;
