#!/bin/sh
# Prints the home of a JDK 25 or newer: JAVA_HOME, the java on the PATH, or one in a usual place.
#
#   usage: JAVA_HOME=$(scripts/find-jdk.sh)

set -eu

REQUIRED=25

# Major version of the JDK in a folder; nothing if there is none. A JRE has no javac.
major() {
    [ -x "$1/bin/java" ] && [ -x "$1/bin/javac" ] && [ -r "$1/release" ] || return 0
    sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$1/release"
}

# Prints the folder and ends if it holds a JDK that is new enough.
try() {
    version=$(major "$1")
    if [ -n "$version" ] && [ "$version" -ge "$REQUIRED" ]; then
        printf '%s\n' "$1"
        exit 0
    fi
}

if [ -n "${JAVA_HOME-}" ]; then
    try "$JAVA_HOME"
fi

if java=$(command -v java 2>/dev/null); then
    try "$(dirname "$(dirname "$(readlink -f "$java")")")"
fi

for home in /usr/lib/jvm/* "${HOME-}"/.sdkman/candidates/java/* /opt/*; do
    try "$home"
done

cat >&2 <<TEXT
error: no JDK $REQUIRED or newer was found (looked at JAVA_HOME, java on the PATH, /usr/lib/jvm,
~/.sdkman/candidates/java and /opt). Install one, for instance from https://adoptium.net, and set
JAVA_HOME to its folder if it lies elsewhere.
TEXT
exit 1
