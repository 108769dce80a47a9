/**
 * A step's activations and deltas between two processes: binary frames over one connection per base
 * model and shard. Layout in {@link io.infinilora.wire.frames.FrameHeader}.
 *
 * <p>A connection is a session. The base says {@link io.infinilora.wire.frames.FrameType#HELLO},
 * the shard {@link io.infinilora.wire.frames.FrameType#WELCOME} or why not. A step is announced
 * once; then, site by site, activations go one way and deltas the other. A step that fails at the
 * shard gets a {@link io.infinilora.wire.frames.FrameType#FAILURE}; one that the base gives up an
 * {@link io.infinilora.wire.frames.FrameType#ABANDON}, which closes the epoch, so that whatever of
 * it is under way yet is dropped where it arrives. The session's leases end with the connection.
 */
package io.infinilora.wire.frames;
