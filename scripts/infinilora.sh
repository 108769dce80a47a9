#!/bin/sh
# Starts InfiniLoRA with the Java runtime that lies beside it (see scripts/bundle.sh).
#
# JDK_JAVA_OPTIONS holds further options of the Java virtual machine, such as -Xmx8g.

set -eu

home=$(dirname "$(dirname "$(readlink -f "$0")")")

exec "$home/lib/runtime/bin/java" --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
    -jar "$home/lib/infinilora.jar" "$@"
