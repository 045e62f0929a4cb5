#!/usr/bin/env bash
# Makes docs/results.md: runs every experiment, keeps their figures in docs/data/experiments, and writes the page from these. In full
# that takes some three hours on two cores; runs that are finished are kept, so a second start makes only what is missing. RUNS names
# their folder, EXPERIMENTS some of the experiments.
#   docs/results.sh            everything, in full
#   docs/results.sh --quick    with small settings, for a page that is marked as such; within half an hour on two cores
#   docs/results.sh --page     only the page, from the figures that are there
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${RUNS:-runs/experiments}
quick=()
suffix=
case ${1:-} in
  "" | --page) ;;
  --quick) quick=(--quick) suffix=-quick ;;
  *)
    echo "usage: docs/results.sh [--quick | --page]" >&2
    exit 2
    ;;
esac
if [[ ${1:-} != --page ]]; then
  for name in ${EXPERIMENTS:-$(./teamtr experiment | cut -d ' ' -f 1)}; do
    ./teamtr experiment "$name" "${quick[@]}" --out "$runs"
    mkdir -p "docs/data/experiments/$name"
    cp "$runs/$name$suffix"/{runs.csv,points.csv,stages.csv,experiment.json} "docs/data/experiments/$name/"
  done
fi
./teamtr experiment --results docs/results.md
