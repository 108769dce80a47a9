#!/bin/sh
# Packs the jar with a Java runtime of its own, for machines that have neither Java nor a compiler.
#
#   usage: JAVA_HOME=$(scripts/find-jdk.sh) scripts/bundle.sh JAR OUT
#
#   JAR  the executable jar, with kernels if it is to use GPUs
#   OUT  folder for infinilora-VERSION-linux-x86_64 and the archive of it; what was there before of
#        this name is replaced
#
# Prints the path of the archive. The runtime is that of the JDK, of its platform; so is the bundle.

set -eu

# Asked for by classes that run: java.desktop for java.beans (chat templates), java.compiler by
# Vert.x, the rest of the second line by Infinispan and JGroups; jdk.naming.dns finds clusters.
MODULES=java.base,java.logging,java.management,java.net.http,java.xml,jdk.incubator.vector,jdk.jfr,jdk.management,jdk.net,jdk.unsupported,jdk.zipfs
MODULES=$MODULES,java.compiler,java.desktop,java.naming,java.rmi,java.scripting,java.security.jgss,java.security.sasl,java.sql,jdk.naming.dns

# Fixtures small enough to travel: a dense model, and a mixture of experts with adapters per expert.
FIXTURES='llama qwen3_moe'

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

[ $# -eq 2 ] || fail "usage: scripts/bundle.sh JAR OUT"
jar=$(readlink -f "$1")
mkdir -p "$2"
out=$(readlink -f "$2")
root=$(readlink -f "$(dirname "$0")/..")

[ -f "$jar" ] || fail "there is no $1"
[ "$(uname -sm)" = 'Linux x86_64' ] || fail "bundles are made on Linux x86_64 only"
command -v xz >/dev/null || fail "xz was not found; install it (Debian and Ubuntu: apt install xz-utils)"

work=$(mktemp -d "$out/.bundle.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir "$work/classes"
(cd "$work/classes" && "$JAVA_HOME/bin/jar" xf "$jar")
version=$(sed -n 's/^Implementation-Version: \([^[:space:]]*\).*/\1/p' "$work/classes/META-INF/MANIFEST.MF")
[ -n "$version" ] || fail "the jar's manifest names no version"
name=infinilora-$version-linux-x86_64
home=$work/$name
mkdir -p "$home/bin" "$home/lib" "$home/conf" "$home/fixtures"

# Native libraries of other platforms. Nothing is compressed here: xz does that better.
(
    cd "$work/classes"
    for folder in native/lib/* com/sun/jna/*; do
        case $folder in
            */linux-x86_64 | */linux-x86-64) ;;
            native/lib/*/* | native/lib/*-* | com/sun/jna/*-*) rm -rf "$folder" ;;
        esac
    done
    rm -rf META-INF/maven
)
mv "$work/classes/META-INF/MANIFEST.MF" "$work/manifest"
"$JAVA_HOME/bin/jar" --create --no-compress --file "$home/lib/infinilora.jar" \
    --manifest "$work/manifest" -C "$work/classes" .

"$JAVA_HOME/bin/jlink" --add-modules "$MODULES" --strip-debug --no-header-files --no-man-pages \
    --compress zip-0 --output "$home/lib/runtime" 2>"$work/jlink.log" || {
    cat "$work/jlink.log" >&2
    fail "jlink failed"
}

cp "$root/scripts/infinilora.sh" "$home/bin/infinilora"
chmod 755 "$home/bin/infinilora"
cp "$root/LICENSE" "$root/NOTICE" "$home/"
cp "$root/conf/infinilora.yaml" "$home/conf/"
for fixture in $FIXTURES; do
    cp -r "$root/src/test/resources/fixtures/$fixture" "$home/fixtures/"
done
cp "$root/src/test/resources/fixtures/README.md" "$home/fixtures/"

chmod -R u+rwX,go+rX,go-w "$home"
tar --create --directory "$work" --owner=0 --group=0 --numeric-owner --sort=name "$name" |
    xz --threads=0 -6 >"$work/archive"
rm -rf "${out:?}/$name"
mv "$home" "$out/"
mv "$work/archive" "$out/$name.tar.xz"
printf '%s\n' "$out/$name.tar.xz"
