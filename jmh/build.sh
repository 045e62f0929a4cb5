#!/usr/bin/env bash
# Builds jmh/target/benchmarks.jar, which the scripts that measure run, unless it is newer than all sources.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jar=jmh/target/benchmarks.jar
if [[ ! -f $jar || -n $(find pom.xml src/main native cuda jmh/pom.xml jmh/src -newer "$jar" -type f -print -quit) ]]; then
  ./mvnw -q -B -DskipTests -Dmaven.javadoc.skip install # the benchmarks are built on the installed library
  ./mvnw -q -B -f jmh package -Dguard.skip
fi
