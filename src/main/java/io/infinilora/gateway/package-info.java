/**
 * Generations across processes: a gateway sends them over the event bus to base-model instances,
 * chosen by load and adapters, and goes on at another one if a base is lost.
 */
package io.infinilora.gateway;
