#!/usr/bin/env bash
# Puts all that the Java tests need into one folder, for a machine with a GPU that has no JDK, no Maven and no network.
#
#   ./mvnw -B test-compile                  here: the checkout must be built (offline is fine, -o, once all was fetched)
#   cuda/bundle.sh FOLDER                   a Java runtime, jars, classes, the JNI library: well under 64 MB
#   cuda/check.sh --bundle FOLDER           there, in a copy of this checkout
#
# libteamtr.so in the bundle is the one of this build, and check.sh puts the one that it builds for the GPU at hand in its
# place. libtorch is left out: the tests that need it, and those of other packages than org.teamtr.kernels, do not run
# there. The tests tagged cuda also need the natives of the JavaCPP Presets for CUDA, which Maven finds (profile cuda), and
# CUDA's own libraries on the machine.
set -euo pipefail

say() { echo "bundle.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

[[ $# -eq 1 && $1 != -* ]] || { sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
target=$root/target
for part in classes test-classes native/org/teamtr/kernels/internal/linux-x86_64/libjniteamtr.so; do
  [[ -e $target/$part ]] || fail "target/$part is missing; first run ./mvnw -B test-compile"
done
home=${JAVA_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v javac || echo /none/bin/javac)")")")}
[[ -x $home/bin/jlink && -d $home/jmods ]] || fail "no JDK with jlink and jmods found (looked in $home); set JAVA_HOME"

[[ ! -e $1 || -f $1/bundle.txt ]] || fail "$1 exists and is no bundle; name another folder"
rm -rf "$1"
mkdir -p "$1"/{lib,native}
bundle=$(cd "$1" && pwd)

# The test class path, with the presets for CUDA if they can be had.
list=$target/bundle-classpath.txt
class_path() {
  (cd "$root" && ./mvnw -q -B "$@" dependency:build-classpath -Dpytorch.natives=linux-x86_64 -DincludeScope=test -Dmdep.outputFile="$list" \
    -Dmdep.regenerateFile=true) > "$target/bundle-classpath.log" 2>&1 < /dev/null
}
if ! { class_path -o -Pcuda || class_path -Pcuda || class_path -o; }; then
  cat "$target/bundle-classpath.log" >&2
  exit 1
fi

engine=""
while read -r -d : jar; do
  case $(basename "$jar") in
    javacpp-[0-9]*.jar | cuda-[0-9]*.jar | junit-*.jar | opentest4j-*.jar | apiguardian-*.jar) cp "$jar" "$bundle/lib/" ;;
  esac
  [[ $(basename "$jar") != junit-platform-engine-*.jar ]] || engine=$jar
done <<< "$(< "$list"):"
rm -f "$list" "$target/bundle-classpath.log"
[[ -n $engine ]] || fail "no JUnit on the test class path"
compgen -G "$bundle/lib/cuda-*-linux-x86_64.jar" > /dev/null \
  || say "no natives of the JavaCPP Presets for CUDA to be had: the tests tagged cuda cannot run"

# What runs the tests is not on their class path; Maven's test runner has fetched it, of the same version.
launcher=${engine//engine/launcher}
if [[ ! -f $launcher ]]; then
  version=$(basename "$launcher" .jar)
  (cd "$root" && ./mvnw -q -B dependency:get -Dartifact="org.junit.platform:junit-platform-launcher:${version##*-}") \
    || fail "no $(basename "$launcher") in the local Maven repository; run any test by Maven once"
fi
cp "$launcher" "$bundle/lib/"

cp -r "$target/native/." "$bundle/native/"
mkdir -p "$bundle/classes/org/teamtr" "$bundle/test-classes/org/teamtr"
cp -r "$target/classes/." "$bundle/classes/"
find "$bundle/classes/org/teamtr" -mindepth 1 -maxdepth 1 -type d ! -name kernels -exec rm -r {} +
cp -r "$target/test-classes/org/teamtr/kernels" "$bundle/test-classes/org/teamtr/"
[[ ! -d $target/test-classes/META-INF ]] || cp -r "$target/test-classes/META-INF" "$bundle/test-classes/"
find "$target/test-classes" -maxdepth 1 -type f -exec cp {} "$bundle/test-classes/" \;
"$home/bin/javac" --release 17 -proc:none -cp "$bundle/lib/*" -d "$bundle/test-classes" "$here/RunTests.java"

"$home/bin/jlink" --add-modules java.base,java.logging,java.management,jdk.management,jdk.unsupported \
  --strip-debug --compress=2 --no-header-files --no-man-pages --vm=server --output "$bundle/runtime"

commit=$(git -C "$root" rev-parse --short=7 HEAD 2> /dev/null || echo unknown)
[[ -z $(git -C "$root" status --porcelain --untracked-files=no 2> /dev/null) ]] || commit+=-changed
{
  echo "commit $commit"
  "$bundle/runtime/bin/java" -version 2>&1 | sed -n '2s/^/java /p'
} > "$bundle/bundle.txt"
megabytes=$(du -sm "$bundle" | cut -f1)
say "$1: $megabytes MB, $(sed -n '1s/^commit //p' "$bundle/bundle.txt")"
if [[ $megabytes -gt 64 ]]; then
  du -am "$bundle" | sort -rn | sed -n 1,8p >&2
  fail "more than 64 MB"
fi
