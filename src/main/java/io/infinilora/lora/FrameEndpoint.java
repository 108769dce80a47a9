package io.infinilora.lora;

/**
 * Where a process takes frames.
 *
 * @param bindHost address on which it listens
 * @param advertisedHost name or address by which base models in other processes reach it
 * @param port on which it listens; 0 for any that is free
 */
public record FrameEndpoint(String bindHost, String advertisedHost, int port) {}
