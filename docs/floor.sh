#!/usr/bin/env bash
# Measures what rounding makes of a trust region, on the CPU: docs/data/floor.csv, the KL of a step of nothing in every number format,
# and docs/data/deep.csv, the same run of 28 layers in bf16, f16 and f32; and their tables in docs/method.md. Some minutes on two cores.
# RUNS names the folder of the runs; those that are finished are kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${RUNS:-runs/floor}
mkdir -p "$runs" docs/data

jmh/build.sh
run() { "${JAVA_HOME:+$JAVA_HOME/bin/}java" -Dorg.bytedeco.javacpp.cachedir=jmh/target/cache -cp jmh/target/benchmarks.jar "$@"; }

run org.teamtr.jmh.FloorTable docs/data/floor.csv docs/method.md "$runs/models" docs/kernels.md docs/metrics.md docs/results.md

# As deep as Qwen3-0.6B, on the built-in task, with two agents. A radius that f16's rounding is far below and bf16's is not.
deep=(--set task.budget.agents=2 --set rollout.prompts=16 --set rollout.validation_fraction=0.125 --set eval.every=0 --set eval.prompts=256)
[[ -f $runs/start/summary.json ]] || ./teamtr train "${deep[@]}" --set train.stages=0 --set warm_start.layers=28 \
  --set warm_start.steps=100 --set warm_start.batch=64 --set warm_start.learning_rate=1e-3 --out "$runs/start"
formats=()
for format in f32 f16 bf16; do
  agent="{model: $runs/start/warm-start, dtype: $format}"
  # floor=warn: bf16 is to show what it comes to, where otherwise it would be refused.
  [[ -f $runs/$format/summary.json ]] || ./teamtr train "${deep[@]}" --set "policies.planner=$agent" --set "policies.solver=$agent" \
    --set train.stages=3 --set trust_region.delta=1e-6 --set trust_region.step_length=measured --set trust_region.floor=warn \
    --set optimiser.steps=2 --set optimiser.learning_rate=3e-4 --out "$runs/$format"
  formats+=("$format=$runs/$format")
done
run org.teamtr.jmh.FormatsTable docs/data/deep.csv docs/method.md "${formats[@]}"
