#!/usr/bin/env bash
# Holds the table of what a run needs of memory against the process itself, on the CPU, for models all of whose weights learn in f32;
# they are random, so that what there is to learn is the entropy alone. Writes docs/data/memory.csv and the table in docs/memory.md.
# Needs 22 GB of memory, up to 15 GB of disk, and about ten minutes on two cores. RUNS names the folder of the runs; those that are
# finished are kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${RUNS:-runs/memory}
mkdir -p "$runs" docs/data

# train NAME SHAPE AGENTS [OPTION...]: one stage in which each agent has an update of two steps, and no more than its last checkpoint left
train() {
  local name=$1 shape=$2 agents=$3 role policies=()
  shift 3
  [[ ! -f $runs/$name/summary.json ]] || return 0
  rm -rf "${runs:?}/$name"
  [[ -f $runs/$shape/config.json ]] || jmh/run.sh org.teamtr.jmh.TrainerModel "$runs/$shape" "$shape"
  for role in planner solver critic; do
    [[ ${#policies[@]} -eq $((2 * agents)) ]] || policies+=(--set "policies.$role={model: $runs/$shape, random: true}")
  done
  TEAMTR_JAVA_OPTS=${TEAMTR_JAVA_OPTS:--Xmx1g} ./teamtr train --set "task.budget.agents=$agents" "${policies[@]}" --set train.stages=1 \
    --set rollout.prompts=4 --set rollout.group=4 --set rollout.max_new_tokens=16 --set loss.entropy=0.01 --set optimiser.steps=2 \
    --set optimiser.learning_rate=1e-6 --set optimiser.micro_batch_tokens=512 --set eval.prompts=16 --set certificate.prompts=16 \
    --set certificate.bound=paper --set trust_region.delta=1 --set checkpoint.keep=1 --set hardware.memory.host=22 "$@" \
    --out "$runs/$name"
}

# Three: with the old policy, from which the exact KL is taken, and the copies for a roll-back.
train three-0.1b 0.1b 3
train three-0.3b 0.3b 3
# Two, with neither: more would not fit.
train two-0.6b 0.6b 2 --set trust_region.monitor=k3 --set trust_region.rollback=false --set optimiser.micro_batch_tokens=128

jmh/run.sh org.teamtr.jmh.MemoryTable docs/data/memory.csv docs/memory.md \
  "three policies of 95 million parameters, with a roll-back=$runs/three-0.1b" \
  "three policies of 297 million parameters: Qwen3-0.6B's widths and vocabulary, 9 of its 28 layers; with a roll-back=$runs/three-0.3b" \
  "two policies of Qwen3-0.6B's shape, 596 million parameters; the KL of the sampled tokens, no roll-back=$runs/two-0.6b"
