/**
 * Assembles a serving node in one JVM: backend, model, LoRA server, engine. The way to embed
 * InfiniLoRA.
 */
package io.infinilora.node;
