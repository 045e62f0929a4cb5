#!/usr/bin/env bash
# Runs a class of the benchmarks: jmh/run.sh CLASS ARGUMENT... Builds jmh/target/benchmarks.jar first, unless it is newer than all sources.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jar=jmh/target/benchmarks.jar
if [[ ! -f $jar || -n $(find pom.xml src/main native cuda jmh/pom.xml jmh/src -newer "$jar" -type f -print -quit) ]]; then
  ./mvnw -q -B -DskipTests -Dmaven.javadoc.skip install # the benchmarks are built on the installed library
  ./mvnw -q -B -f jmh package -Dguard.skip
fi
# With the tests' classes, some of which reach the package-private parts of a policy.
exec "${JAVA_HOME:+$JAVA_HOME/bin/}java" -Dorg.bytedeco.javacpp.cachedir=jmh/target/cache -cp "$jar:target/test-classes" "$@"
