#!/bin/sh
# Fetches a CUDA compiler and prints its path. Needs no GPU and no driver, and installs nothing.
#
#   usage: NVCC=$(scripts/fetch-nvcc.sh)
#
# The compiler lies in ${XDG_CACHE_HOME:-$HOME/.cache}/infinilora/nvcc. One that is there already is
# used as it is, without the network. PYTHON names the Python to use (default: python3); it needs pip.
# Versions and checksums are those of scripts/nvcc-requirements.txt.

set -eu

PYTHON=${PYTHON:-python3}
requirements=$(dirname "$0")/nvcc-requirements.txt

say() {
    printf 'fetch-nvcc: %s\n' "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] ||
    die "there is a compiler for x86-64 Linux only; install CUDA and set CUDA_HOME"
[ -n "${XDG_CACHE_HOME-}${HOME-}" ] || die "neither HOME nor XDG_CACHE_HOME is set"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/infinilora
target=$cache/nvcc
nvcc=$target/nvidia/cu13/bin/nvcc
if [ -x "$nvcc" ]; then
    printf '%s\n' "$nvcc"
    exit 0
fi

"$PYTHON" -m pip --version >/dev/null 2>&1 ||
    die "$PYTHON has no pip; install it (Debian and Ubuntu: apt install python3-pip) or set PYTHON"
mkdir -p "$cache" || die "cannot create the folder $cache"
# The work folder is beside the target, so that the last step is a rename.
work=$(mktemp -d "$cache/.fetch.XXXXXX") || die "cannot write to $cache"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "downloading a CUDA 13.0 compiler (about 105 MB)"
"$PYTHON" -m pip download --no-deps --no-cache-dir --only-binary :all: --require-hashes \
    --disable-pip-version-check --dest "$work/wheels" --requirement "$requirements" >&2 ||
    die "pip could not download it (pip's own message is above)"
for wheel in "$work"/wheels/*.whl; do
    "$PYTHON" -m zipfile -e "$wheel" "$work/nvcc" || die "cannot unpack $wheel"
done
# Archives of this kind do not keep who may execute what.
find "$work/nvcc/nvidia/cu13/bin" "$work/nvcc/nvidia/cu13/nvvm/bin" -type f -exec chmod +x {} +

rm -rf "$target"
mv "$work/nvcc" "$target" || die "cannot move the compiler to $target"
say "done"
printf '%s\n' "$nvcc"
