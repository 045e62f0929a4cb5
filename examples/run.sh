#!/usr/bin/env bash
# Builds and runs the examples, all or those that are named, against this checkout's library, and compares what they print with their
# expected.txt. One line each; exit code 1 if any fails. The library is taken by its coordinates out of a local Maven repository of its
# own, target/examples-repository; everything else out of the local repository that built it, where what is missing is downloaded to.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
target=$root/target
own=$target/examples-repository
export JDK_JAVA_OPTIONS="-XX:TieredStopAtLevel=1 ${JDK_JAVA_OPTIONS:-}" # short-lived JVMs
version=$(sed -n 's|^  <version>\(.*\)</version>$|\1|p' pom.xml)
jar=$target/teamtr-$version
[[ -f $jar.jar && -f $jar-linux-x86_64.jar && -f $target/runtime-classpath.txt ]] ||
  ./mvnw -B -q -ntp -DskipTests -Dmaven.javadoc.skip=true package
shared=$(sed 's|/org/bytedeco/javacpp/.*||; s|.*:||' "$target/runtime-classpath.txt")
maven=(./mvnw -B -q -ntp)
install=(org.apache.maven.plugins:maven-install-plugin:3.2.0:install-file "-DlocalRepositoryPath=$own" -DpomFile=pom.xml)
"${maven[@]}" "${install[@]}" "-Dfile=$jar.jar"
"${maven[@]}" "${install[@]}" "-Dfile=$jar-linux-x86_64.jar" -Dclassifier=linux-x86_64

# Of two local repositories, what is downloaded goes to the first, and what both have comes from the first.
mvn() { # EXAMPLE FIRST SECOND ARGUMENT...
  "${maven[@]}" -f "examples/$1/pom.xml" "-Dteamtr.version=$version" "-Dmaven.repo.local=$2" "-Dmaven.repo.local.tail=$3" "${@:4}"
}
classpath=(org.apache.maven.plugins:maven-dependency-plugin:3.11.0:build-classpath -Dmdep.outputFile=target/classpath.txt)
build() { mvn "$1" "$own" "$shared" -o compile "${classpath[@]}" exec:exec; }
fetch() { mvn "$1" "$shared" "$own" "${classpath[@]}" exec:help compile; }

run() { # EXAMPLE: says why it failed, nothing if it did not
  local folder=examples/$1 missing
  [[ -f $folder/pom.xml ]] || { echo "no such example"; return; }
  rm -rf "$folder/target"
  mkdir "$folder/target"
  local output=$folder/target/output.txt errors=$folder/target/errors.txt
  if ! build "$1" > "$output" 2> "$errors"; then
    # Compiles as well, perhaps with an older library that the first repository has; only what cannot be downloaded matters.
    if ! fetch "$1" > "$folder/target/fetch.txt" 2>&1 && [[ $optional && $(< "$folder/target/fetch.txt") == *"Could not transfer"* ]]; then
      echo "left out: $(grep -m 1 -o 'Could not transfer [^ ]* [^ ]*' "$folder/target/fetch.txt")"
      return
    fi
    build "$1" > "$output" 2> "$errors" || { printf 'failed:\n%s\n' "$(tail -n 20 "$output" "$errors")"; return; }
  fi
  ! missing=$(grep -vxFf "$output" "$folder/expected.txt") || printf 'not printed: %s\n' "$missing"
  if [[ $1 != langchain4j ]] && grep -q org/bytedeco/pytorch "$folder/target/classpath.txt"; then
    echo "on its class path is the libtorch of the JavaCPP Presets, which the kernels do not need"
  fi
}

optional=
[[ ${1:-} != --available ]] || { optional=1; shift; } # what cannot be downloaded is left out, and said to be
[[ $# -gt 0 ]] || set -- plain-java djl nd4j spark kotlin langchain4j
failed=0
for example in "$@"; do
  started=$SECONDS
  why=$(run "$example")
  if [[ $why == "left out: "* ]]; then
    printf '%-12s %s\n' "$example" "$why"
  elif [[ -z $why ]]; then
    printf '%-12s as expected, %d s\n' "$example" $((SECONDS - started))
  else
    printf '%-12s %s\n' "$example" "$why"
    failed=1
  fi
done
exit $failed
