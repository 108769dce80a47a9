package io.infinilora.weights.hub;

/**
 * A file of a repository at one commit.
 *
 * @param path relative, with slashes; checked to stay inside
 * @param size in bytes
 * @param checksum of the content
 */
record RemoteFile(String path, long size, Checksum checksum) {}
