#!/usr/bin/env bash
# Holds the table of what a run needs of memory against the process itself, on the CPU: three policies of 95 million parameters, all of
# whose weights learn, in f32; random, so that what there is to learn is the entropy alone. Writes docs/data/memory.csv and the table in
# docs/memory.md. Needs 9 GB, and some minutes on two cores. RUNS names the folder of the run; a
# finished one is kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${RUNS:-runs/memory}
mkdir -p "$runs" docs/data

[[ -f $runs/model/config.json ]] || jmh/run.sh org.teamtr.jmh.TrainerModel "$runs/model" 0.1b
agent="{model: $runs/model, random: true}"
[[ -f $runs/run/summary.json ]] || TEAMTR_JAVA_OPTS=${TEAMTR_JAVA_OPTS:--Xmx1g} ./teamtr train --set task.budget.agents=3 \
  --set "policies.planner=$agent" --set "policies.solver=$agent" --set "policies.critic=$agent" --set train.stages=1 \
  --set rollout.prompts=4 --set rollout.group=4 --set rollout.max_new_tokens=16 --set loss.entropy=0.01 --set optimiser.steps=2 \
  --set optimiser.learning_rate=1e-6 --set optimiser.micro_batch_tokens=512 --set eval.prompts=16 --set certificate.prompts=16 \
  --set certificate.bound=paper --set trust_region.delta=1 --out "$runs/run"
jmh/run.sh org.teamtr.jmh.MemoryTable docs/data/memory.csv docs/memory.md \
  "three policies of 95 million parameters in f32, all weights learn, an update of two steps with a rollback=$runs/run"
