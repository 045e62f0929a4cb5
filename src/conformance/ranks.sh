#!/usr/bin/env bash
# Several processes train one team, started by torchrun itself: src/conformance/ranks.sh PYTHON [cpu|cuda] [FOLDER]
# PYTHON has torch. Compares the runs of 2 and 4 processes, and of 2 that divide weights, with that of one, kills a rank and sees torchrun's restart go on, lets an
# elastic job lose one of its two nodes, and resumes with other numbers of ranks. With cuda, each process needs a GPU, and what is
# exchanged goes through NCCL: for machines with two GPUs or more (RANKS="2" where there are not four).
set -euo pipefail

python=$1
device=${2:-cpu}
root=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../..
folder=${3:-$(mktemp -d)}
teamtr=${TEAMTR:-$root/teamtr}
mkdir -p "$folder"
port=$((20000 + RANDOM % 20000))
file=$folder/run.yaml
cat > "$file" << EOF
seed: 3
task: {budget: {agents: 2}}
warm_start: {steps: 60, batch: 32}
train: {stages: 4}
rollout: {prompts: 8, group: 8, validation_fraction: 0.25, max_new_tokens: 3}
eval: {prompts: 32, transcripts: 4}
hardware: {device: $device, threads: 1, ranks: {timeout: 120}}
EOF

say() { echo "== $*"; }
run_torch() { "$python" -m torch.distributed.run --no-python "$@"; }
# The children of a process that are a given rank, and their children: torchrun's own child may be a shell.
rank_of() { # launcher rank
  local pid
  for pid in $(descendants "$1"); do
    if tr '\0' '\n' 2> /dev/null < "/proc/$pid/environ" | grep -qx "RANK=$2" && [[ $(< "/proc/$pid/comm") == java ]]; then
      echo "$pid"
    fi
  done
}
descendants() {
  local child
  for child in $(pgrep -P "$1"); do
    echo "$child"
    descendants "$child"
  done
}
await() { # file, seconds
  local i
  for ((i = 0; i < 10 * $2; i++)); do
    [[ ! -e $1 ]] || return 0
    sleep 0.1
  done
  say "no $1 after $2 s"
  return 1
}

say "one process"
"$teamtr" train "$file" --out "$folder/one" > "$folder/one.log" 2>&1
for n in ${RANKS:-2 4}; do
  say "$n processes by torchrun"
  run_torch --nproc-per-node "$n" --master-port "$port" "$teamtr" train "$file" --out "$folder/$n" > "$folder/$n.log" 2>&1
  "$python" "$root/src/conformance/ranks.py" "$folder/one" "$folder/$n"
done

for shard in state gradients weights; do
  say "2 processes by torchrun, shard: $shard"
  run_torch --nproc-per-node 2 --master-port "$port" "$teamtr" train "$file" --out "$folder/$shard" --set hardware.ranks.shard=$shard \
    > "$folder/$shard.log" 2>&1
  "$python" "$root/src/conformance/ranks.py" "$folder/one" "$folder/$shard"
done

say "a rank is killed, and torchrun starts all anew"
run_torch --nproc-per-node 2 --max-restarts 1 --master-port $((port + 1)) "$teamtr" train "$file" --out "$folder/killed" \
  --set train.stages=8 > "$folder/killed.log" 2>&1 &
launcher=$!
await "$folder/killed/checkpoints/stage-0002" 180
kill -9 "$(rank_of $launcher 1)"
wait $launcher
grep -q 'going on from .*checkpoints' "$folder/killed.log"
[[ $(wc -l < "$folder/killed/stages.jsonl") == 9 ]]
say "went on from $(sed -n 's/.*going on from .*stage-0*\([0-9]*\).*/stage \1/p' "$folder/killed.log") to stage 8"

say "an elastic job of one or two nodes loses one"
nodes=()
for node in 1 2; do
  run_torch --nnodes 1:2 --nproc-per-node 1 --max-restarts 3 --rdzv-backend c10d --rdzv-endpoint "localhost:$((port + 2))" \
    --rdzv-id teamtr --rdzv-conf "is_host=$((node == 1)),last_call_timeout=15" "$teamtr" train "$file" --out "$folder/elastic" \
    --set train.stages=8 > "$folder/elastic-$node.log" 2>&1 &
  nodes+=($!)
done
await "$folder/elastic/checkpoints/stage-0002" 180
grep -hq 'by 2 processes' "$folder"/elastic-*.log
for pid in $(descendants "${nodes[1]}") "${nodes[1]}"; do
  kill -9 "$pid" 2> /dev/null || true
done
wait "${nodes[0]}"
[[ $(wc -l < "$folder/elastic/stages.jsonl") == 9 ]]
say "went on from $(sed -n 's/.*going on from .*stage-0*\([0-9]*\).*/stage \1/p' "$folder"/elastic-1.log | tr '\n' ' ') alone, to stage 8"

stages=8
for n in ${RESUMES:-3 2 1}; do
  stages=$((stages + 1))
  say "resumed with $n processes by --processes"
  "$teamtr" train --resume "$folder/killed" --set train.stages=$stages --processes "$n" > "$folder/resumed-$n.log" 2>&1
  [[ $(wc -l < "$folder/killed/stages.jsonl") == $((stages + 1)) ]]
done
say "all right; logs in $folder"
