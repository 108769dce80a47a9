#!/bin/sh
# Prints the path of a CUDA compiler: NVCC, the one of CUDA_HOME, on the PATH, in the usual place, or
# what scripts/fetch-nvcc.sh has fetched. Prints nothing and fails if there is none.
#
#   usage: NVCC=$(scripts/find-nvcc.sh)

set -eu

for nvcc in "${NVCC-}" "${CUDA_HOME-}/bin/nvcc" "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc \
    "${XDG_CACHE_HOME:-${HOME-}/.cache}/infinilora/nvcc/nvidia/cu13/bin/nvcc"; do
    if [ -n "$nvcc" ] && [ -x "$nvcc" ]; then
        printf '%s\n' "$nvcc"
        exit 0
    fi
done
exit 1
