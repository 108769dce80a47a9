#!/usr/bin/env bash
# Measures the engine and, where it can be installed, llama.cpp on the same model in the same run.
# usage: scripts/bench.sh [REPEATS]
# Prints one JSON object per engine and mode; docs/performance.md explains them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

repeats=${1:-5}
JAVA_HOME=${JAVA_HOME:-$(scripts/find-jdk.sh)}
model=$(scripts/fetch-model.sh)
threads=$(nproc)

"$JAVA_HOME/bin/java" --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
  -cp target/infinilora.jar io.infinilora.bench.EngineBench "$model" examples/adapters "$repeats"

# llama-cpp-python compiles llama.cpp for this machine; that takes minutes, once.
venv=target/llama-venv
if [[ ! -x $venv/bin/python ]]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet llama-cpp-python gguf numpy ||
    { rm -rf "$venv"; echo "llama.cpp could not be installed: no comparison" >&2; exit 1; }
fi
"$venv/bin/python" scripts/bench-llamacpp.py --gguf "$model" --adapters examples/adapters --threads "$threads"
