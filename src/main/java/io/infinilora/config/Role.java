package io.infinilora.config;

/** What a process does. */
public enum Role {
  /** Everything, in one JVM and without a cluster. */
  ALL,
  /** A base model: part of a cluster, with an API of its own. */
  BASE,
  /** Shards of the LoRA server: part of a cluster. */
  LORA,
  /** The API only: sends requests to the base models of a cluster. */
  GATEWAY
}
