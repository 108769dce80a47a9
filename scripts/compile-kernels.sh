#!/bin/sh
# Compiles the CUDA kernels that have changed.
#
#   usage: scripts/compile-kernels.sh NVCC OUT
#
#   NVCC  path of the compiler
#   OUT   folder for the fatbins, one per file of src/main/cuda
#
# A fatbin holds machine code for Hopper (sm_90a) and PTX for what is older or newer (sm_80 and up).

set -eu

nvcc=$1
out=$2
sources=$(dirname "$0")/../src/main/cuda

mkdir -p "$out"
for source in "$sources"/*.cu; do
    fatbin=$out/$(basename "$source" .cu).fatbin
    if [ -f "$fatbin" ] && [ -z "$(find "$source" "$sources" -name '*.cu*' -newer "$fatbin")" ]; then
        continue
    fi
    printf 'compiling %s\n' "$(basename "$source")"
    "$nvcc" -std=c++17 -O3 -fatbin -Werror all-warnings \
        -gencode=arch=compute_90a,code=sm_90a -gencode=arch=compute_80,code=compute_80 \
        -o "$fatbin.part" "$source"
    mv "$fatbin.part" "$fatbin"
done
