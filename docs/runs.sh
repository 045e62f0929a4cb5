#!/usr/bin/env bash
# Makes the runs behind the README's table and picture, then docs/data/runs.csv, docs/data/ledger.csv, docs/ledger.png and
# docs/ledger.svg from them, and puts the table into README.md. About half an hour on two cores. Runs that are
# finished are kept: RUNS names their folder, and a second start makes only what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${RUNS:-runs/readme}
mkdir -p "$runs" docs/data

ledger=() # of what the picture shows
table=()  # of what the table shows
for seed in 1 2 3; do
  for n in 4 8; do
    for schedule in fresh stale; do
      run=$runs/n$n-$schedule-$seed
      options=(--set "seed=$seed" --set "task.budget.agents=$n")
      [[ $schedule == fresh ]] || options+=(--set rollout.resample_every=0)
      # Eight agents take four times as long to play a stage, and show what there is to see in fewer.
      [[ $n == 4 ]] || options+=(--set train.stages=10)
      if [[ ! -f $run/summary.json ]]; then
        rm -rf "$run"
        ./teamtr train "${options[@]}" --out "$run"
      fi
      ledger+=("n = $n, $schedule=$run")
      table+=("n = $n, $schedule=$run")
    done
  done
  run=$runs/n4-no-rollback-$seed
  if [[ ! -f $run/summary.json ]]; then
    rm -rf "$run"
    ./teamtr train --set "seed=$seed" --set trust_region.rollback=false --out "$run"
  fi
  table+=("n = 4, fresh, no roll-back=$run")
done
./teamtr compare "${ledger[@]}" --csv docs/data/ledger.csv --picture docs/ledger.png
./teamtr compare "${ledger[@]}" --csv docs/data/ledger.csv --picture docs/ledger.svg
./teamtr compare "${table[@]}" --summaries docs/data/runs.csv --table README.md
