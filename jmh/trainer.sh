#!/usr/bin/env bash
# Measures the trainer, on a machine that does nothing else.
#   jmh/trainer.sh                  an update's time by phase, on the built-in team and on two random models of 0.1 billion parameters,
#                                   and the thread rule: docs/data/trainer.csv, docs/data/threads*.csv and the tables in docs/method.md.
#                                   About three minutes
#   jmh/trainer.sh speed [COMMIT]   tokens per second of decoding over the number of rows, scoring and an update, at 0.1 and 0.6 billion
#                                   parameters, adapters on the latter, before (COMMIT, 3590011 by default) and now, by turns in one run:
#                                   docs/data/decoding.csv and the table in docs/trainer-speed.md. About half an hour and 8 GB;
#                                   ROUNDS=1 for one turn of each, SHAPES=0.1b for one shape
#   jmh/trainer.sh trl PYTHON       an update from fresh rollouts, beside TRL's GRPOTrainer, where that Python has it: a model of 45 million
#                                   parameters with 151,936 tokens, f32, 8 prompts of 100 tokens x 8 messages of 64, one optimiser step:
#                                   docs/data/trl.csv and the table in docs/trainer-speed.md. About ten minutes and 13 GB
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=jmh/target/trainer
rm -rf "$work"
mkdir -p "$work" docs/data
load=$(cut -d ' ' -f 1 /proc/loadavg)

machine() {
  echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPUs, JDK $(jmh/run.sh -XshowSettings:properties -version 2>&1 |
    sed -n 's/^ *java.runtime.version = //p'), commit $(git rev-parse --short HEAD), load $load at the start"
}

if [[ ${1:-} == speed ]]; then
  ./teamtr --help > /dev/null # builds what is measured
  before=$(git rev-parse --short "${2:-3590011}") now=$(git rev-parse --short HEAD)
  tree=$PWD/$work/before
  git worktree add --detach "$tree" "$before" > /dev/null
  trap 'git worktree remove --force "$tree"' EXIT
  (cd "$tree" && ./mvnw -q -B -DskipTests -Dmaven.javadoc.skip -Dcmake.cuda=OFF test-compile)
  jmh/run.sh org.teamtr.jmh.TrainerModel "$work/0.1b" 0.1b
  jmh/run.sh org.teamtr.jmh.TrainerModel "$work/0.6b" 0.6b
  csv=docs/data/decoding.csv
  echo "commit,model,lora_rank,measure,rows,tokens,seconds,seconds_cpu,tokens_per_second" > "$csv"
  export OMP_WAIT_POLICY=PASSIVE # as ./teamtr sets it
  libraries=$(< target/runtime-classpath.txt) # the tokenizer's is not among the benchmarks'
  speed() { # COMMIT CLASSES: these come before the benchmarks' own
    local commit=$1 classes=$2
    [[ " ${SHAPES:-0.1b 0.6b} " != *" 0.1b "* ]] || "${JAVA_HOME:+$JAVA_HOME/bin/}java" -Dorg.bytedeco.javacpp.cachedir=jmh/target/cache \
      -cp "$classes:jmh/target/benchmarks.jar:$libraries" org.teamtr.jmh.TrainerSpeed "$csv" "$commit" "$work/0.1b" 0.1b 0 4-16-64-192
    [[ " ${SHAPES:-0.1b 0.6b} " != *" 0.6b "* ]] || "${JAVA_HOME:+$JAVA_HOME/bin/}java" -Dorg.bytedeco.javacpp.cachedir=jmh/target/cache \
      -cp "$classes:jmh/target/benchmarks.jar:$libraries" org.teamtr.jmh.TrainerSpeed "$csv" "$commit" "$work/0.6b" 0.6b 16 4-16-32-64
  }
  for ((round = 0; round < ${ROUNDS:-3}; round++)); do
    speed "$before" "$tree/target/classes:$tree/target/native"
    speed "$now" "target/classes:target/native"
  done
  jmh/run.sh org.teamtr.jmh.SpeedTable "$csv" docs/trainer-speed.md "$before" "$now" "$(machine)"
  exit
fi

if [[ ${1:-} == trl ]]; then
  python=$2
  ./teamtr --help > /dev/null
  jmh/run.sh org.teamtr.jmh.TrainerModel "$work/45m" 45m
  "$python" - > "$work/prompts.jsonl" << 'END'
import json, random
random.seed(1)
for _ in range(64):
    print(json.dumps({"question": "".join(random.choice("0123456789=+") for _ in range(100)), "answer": "0"}))
END
  cat > "$work/trl.yaml" << END
# Random models earn nothing; the entropy bonus gives an update something to do. Nothing is evaluated.
task: {name: files, files: {train: $work/prompts.jsonl}}
team: {agents: [{role: solver, policy: solver, template: "{prompt}"}]}
policies: {solver: {model: $work/45m, random: true}}
train: {stages: 4}
rollout: {prompts: 8, group: 8, validation_fraction: 0, max_new_tokens: 64}
loss: {entropy: 0.01}
trust_region: {delta: 10}
optimiser: {steps: 1, learning_rate: 1e-5}
certificate: {bound: paper}
eval: {every: 0, prompts: 1}
END
  csv=docs/data/trl.csv
  versions=$("$python" -c 'import torch, transformers, trl; print(f"TRL {trl.__version__}; transformers {transformers.__version__}; torch {torch.__version__}")')
  echo "who,seconds,peak_resident_bytes,seconds_rollout,seconds_update,seconds_monitor" > "$csv"
  for ((round = 0; round < ${ROUNDS:-2}; round++)); do
    rm -rf "$work/trl-run"
    ./teamtr train "$work/trl.yaml" --out "$work/trl-run"
    "$python" - "$work/trl-run" "TeamTR $(git rev-parse --short HEAD)" >> "$csv" << 'END'
import json, sys
peak = json.load(open(sys.argv[1] + "/summary.json"))["peak_resident_bytes"]
for line in list(open(sys.argv[1] + "/metrics.jsonl"))[1:]:
    update = json.loads(line)
    parts = [update[f"seconds_{part}"] for part in ("rollout", "update", "kl")]
    print(f"{sys.argv[2]},{sum(parts):.3f},{peak}," + ",".join(f"{part:.3f}" for part in parts))
END
    "$python" jmh/grpo_step.py "$work/45m" "$work/prompts.jsonl" 4 | sed -nE "s/^([0-9.]+,[0-9]+)$/$versions,\1,,,/p" >> "$csv"
  done
  jmh/run.sh org.teamtr.jmh.TrlTable "$csv" docs/trainer-speed.md "$(machine)"
  exit
fi

./teamtr train --set train.stages=4 --set eval.every=0 --out "$work/built-in"
jmh/run.sh org.teamtr.jmh.TrainerModel "$work/model"
# Random models earn nothing, and where all returns are equal an update would end before it began: the entropy bonus gives it
# something to do.
./teamtr train --set task.budget.agents=2 --set "policies.planner={model: $work/model, random: true}" \
  --set "policies.solver={model: $work/model, random: true}" --set rollout.prompts=4 --set rollout.group=4 --set rollout.max_new_tokens=8 \
  --set optimiser.steps=2 --set optimiser.learning_rate=1e-5 --set loss.entropy=0.01 --set train.stages=2 --set eval.every=0 \
  --set eval.prompts=1 --set trust_region.delta=1 --out "$work/random-0.1b"
./mvnw -q -B -Dmaven.javadoc.skip test-compile # ThreadRule is among the tests, which reach the package-private parts of a policy
jmh/run.sh org.teamtr.torch.ThreadRule docs/data/threads.csv
OMP_WAIT_POLICY=PASSIVE jmh/run.sh org.teamtr.torch.ThreadRule docs/data/threads-passive.csv # as ./teamtr sets it
jmh/run.sh org.teamtr.jmh.TrainerTables docs/data/trainer.csv docs/data/threads.csv docs/data/threads-passive.csv docs/method.md \
  "$(machine)" \
  "built-in team of 4 small agents=$work/built-in" "2 random models of 0.1 B parameters=$work/random-0.1b"
