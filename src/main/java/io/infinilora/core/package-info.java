/**
 * The vocabulary everyone speaks: requests, sampling parameters, model descriptions, LoRA sites,
 * tensor views, coded errors. Depends on the JDK and on Mutiny's {@code Multi}, which is part of
 * the engine's public API.
 */
package io.infinilora.core;
