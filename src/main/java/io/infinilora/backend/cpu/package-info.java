/**
 * The CPU backend: Vector API kernels on off-heap memory. {@link
 * io.infinilora.backend.cpu.CpuBackend} is the only public type; operators check shapes once
 * ({@code CpuOpStream}), then split into tasks for a fixed {@code WorkerPool}, whose tasks run
 * unchecked static kernels ({@code *Kernels}) on absolute addresses.
 *
 * <p>Every kernel computes an output element as one fixed sequence of roundings, independent of the
 * other rows of the call, of tile shapes and of the number of threads.
 */
package io.infinilora.backend.cpu;
