#!/usr/bin/env bash
# Makes the runs behind the table of docs/method.md and the README's picture, then docs/data/runs.csv, docs/data/gains.csv, docs/gains.png and
# docs/gains.svg from them, and puts the table into docs/method.md. About half an hour on two cores. Runs that are
# finished are kept: RUNS names their folder, and a second start makes only what is missing. SEEDS are 1, 2 and 3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${RUNS:-runs/readme}
mkdir -p "$runs" docs/data

# train RUN OPTION... makes a run that is not there yet; what is there without a summary was not finished.
train() {
  local run=$1
  shift
  if [[ ! -f $run/summary.json ]]; then
    rm -rf "$run"
    ./teamtr train "$@" --out "$run"
  fi
}

# Eight agents and a radius twice as wide, which larger steps make use of; what there is to see comes early.
eight=(--set task.budget.agents=8 --set trust_region.delta=0.2 --set loss.clip_low=0.6 --set loss.clip_high=0.6
  --set optimiser.learning_rate=3e-3 --set train.stages=10)
stale=(--set rollout.resample_every=0)

gains=() # runs and what the picture calls them
for seed in ${SEEDS:-1 2 3}; do
  at=(--set "seed=$seed")
  train "$runs/n4-fresh-$seed" "${at[@]}"
  train "$runs/n4-stale-$seed" "${at[@]}" "${stale[@]}"
  train "$runs/n8-fresh-$seed" "${at[@]}" "${eight[@]}"
  train "$runs/n8-stale-$seed" "${at[@]}" "${eight[@]}" "${stale[@]}"
  gains+=("n = 4, δ = 0.1, fresh=$runs/n4-fresh-$seed" "n = 4, δ = 0.1, stale=$runs/n4-stale-$seed"
    "n = 8, δ = 0.2, fresh=$runs/n8-fresh-$seed" "n = 8, δ = 0.2, stale=$runs/n8-stale-$seed")
done
train "$runs/n4-no-rollback" --set trust_region.rollback=false # one seed shows how often an update leaves the region without it
./teamtr compare "${gains[@]}" --csv docs/data/gains.csv --picture docs/gains.png
./teamtr compare "${gains[@]}" --csv docs/data/gains.csv --picture docs/gains.svg
./teamtr compare "${gains[@]}" "n = 4, δ = 0.1, fresh, no roll-back=$runs/n4-no-rollback" --summaries docs/data/runs.csv --table docs/method.md
