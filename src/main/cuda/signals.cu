// Signals between streams and the host: 64-bit counters in pinned host memory.
//
// Bytes     8.

#include "device.cuh"

// Grid (1), 1 thread. Launched without programmatic dependence: everything before it in its stream is complete and
// becomes visible, to the host and to other devices, before the counter.
extern "C" __global__ void signal_release(unsigned long long* counter, unsigned long long value) {
    asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(counter), "l"(value) : "memory");
}
