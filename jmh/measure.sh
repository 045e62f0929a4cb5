#!/usr/bin/env bash
# Measures everything that docs/kernels.md, README.md and docs/roofline.png show of the kernels, and writes it there. About a quarter
# of an hour, on a machine that does nothing else: it refuses to start at a load of more than 0.5 (FORCE=1 goes on).
#   jmh/measure.sh [MACHINE]     the name of jmh/results/MACHINE-COMMIT.json; default: from the processor's name
# The kernels measured are those installed: ./mvnw install -DskipTests first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

load=$(cut -d ' ' -f 1 /proc/loadavg)
if [[ -z ${FORCE:-} ]] && awk "BEGIN { exit !($load > 0.5) }"; then
  echo "the load is $load: figures taken now would be of a busy machine. Wait, or set FORCE=1" >&2
  exit 1
fi
processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1 | tr '[:upper:] ' '[:lower:]-' | tr -cd 'a-z0-9-')
machine=${1:-$processor-$(nproc)cpu}
results=jmh/results/$machine-$(git rev-parse --short HEAD).json

mkdir -p jmh/results
jmh/run.sh org.teamtr.jmh.Measure "$results"
jmh/run.sh org.teamtr.jmh.Tables "$results" README.md docs/kernels.md docs/roofline jmh/results/epyc-zen5-2cpu-e3f24c0.json
echo "wrote $results, the tables in README.md and docs/kernels.md, docs/roofline.png and docs/roofline.svg"
