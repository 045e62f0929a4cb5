#!/usr/bin/env bash
# Measures the trainer: an update's time by phase, on the built-in team and on two random models of 0.1 billion parameters, and the
# thread rule. Writes docs/data/trainer.csv, docs/data/threads*.csv and the tables in docs/method.md. About three minutes, on a machine
# that does nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=jmh/target/trainer
rm -rf "$work"
mkdir -p "$work" docs/data
load=$(cut -d ' ' -f 1 /proc/loadavg)

[[ -f jmh/target/benchmarks.jar ]] || ./mvnw -q -B -f jmh package -Dguard.skip
run() { "${JAVA_HOME:+$JAVA_HOME/bin/}java" -Dorg.bytedeco.javacpp.cachedir=jmh/target/cache -cp jmh/target/benchmarks.jar "$@"; }

./teamtr train --set train.stages=4 --set eval.every=0 --out "$work/built-in"
run org.teamtr.jmh.TrainerModel "$work/model"
# Random models earn nothing, and where all returns are equal an update would end before it began: the entropy bonus gives it
# something to do.
./teamtr train --set task.budget.agents=2 --set "policies.planner={model: $work/model, random: true}" \
  --set "policies.solver={model: $work/model, random: true}" --set rollout.prompts=4 --set rollout.group=4 --set rollout.max_new_tokens=8 \
  --set optimiser.steps=2 --set optimiser.learning_rate=1e-5 --set loss.entropy=0.01 --set train.stages=2 --set eval.every=0 \
  --set eval.prompts=1 --set trust_region.delta=1 --out "$work/random-0.1b"
run org.teamtr.torch.ThreadRule docs/data/threads.csv
OMP_WAIT_POLICY=PASSIVE run org.teamtr.torch.ThreadRule docs/data/threads-passive.csv # as ./teamtr sets it
run org.teamtr.jmh.TrainerTables docs/data/trainer.csv docs/data/threads.csv docs/data/threads-passive.csv docs/method.md \
  "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPUs, JDK $(run -XshowSettings:properties -version 2>&1 |
    sed -n 's/^ *java.runtime.version = //p'), commit $(git rev-parse --short HEAD), load $load at the start" \
  "built-in team of 4 small agents=$work/built-in" "2 random models of 0.1 B parameters=$work/random-0.1b"
