// What joins gate and up: see core.Activation.

#pragma once

#include <cmath>

constexpr int SWIGLU_CLAMPED = 1;
constexpr float SWIGLU_LIMIT = 7;
constexpr float SWIGLU_SLOPE = 1.702f;

// A NaN stays one.
__device__ __forceinline__ float bounded(float v, float least, float most) {
    return v > most ? most : v < least ? least : v;
}

__device__ __forceinline__ float gated(int activation, float gate, float up) {
    if (activation == SWIGLU_CLAMPED) {
        const float g = bounded(gate, -INFINITY, SWIGLU_LIMIT), u = bounded(up, -SWIGLU_LIMIT, SWIGLU_LIMIT);
        return __fdividef(g, 1 + __expf(-SWIGLU_SLOPE * g)) * (u + 1);
    }
    return __fdividef(gate, 1 + __expf(-gate)) * up;
}
