package io.infinilora.wire;

/**
 * Where a process takes the frames of its shards.
 *
 * @param host name or address as others see it
 * @param port TCP port
 */
public record FrameAddress(String host, int port) {}
