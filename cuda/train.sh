#!/usr/bin/env bash
# Trains, and prints what is to be seen of it: the built-in task, and three policies of a real size with random weights.
#
#   cuda/train.sh [--device cuda|cpu] [--shape SHAPE] [--dtypes "f16 bf16"] [--out FOLDER] [--quick] [--check]
#   cuda/train.sh --decoding [the same]      instead, milliseconds of a decoding step: by libtorch's operations, by the kernels, and by
#                                            a CUDA graph of them (DecodingSteps.java); 192 rows, 256 tokens before
#
# On a GPU, from a built checkout (./teamtr doctor builds it). Wants in Maven's repository the natives of the JavaCPP Presets for
# PyTorch and CUDA, and CUDA 13's libraries: a toolkit, or the nvidia-* wheels of a Python environment with PyTorch for CUDA 13. What
# is missing is named. --device cpu --shape tiny --quick is the same on any machine, to try the script out. SHAPE as in model.sh;
# the default is qwen3-0.6b. --check only says what is missing. Exit code 0 if all was trained, 3 if something to run it with is missing. JAVA names another java.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
device=cuda shape=qwen3-0.6b dtypes="f16 bf16" out=$root/target/check-train quick=0 check=0 decoding=0
while [[ $# -gt 0 ]]; do
  case $1 in
    --device | --shape | --dtypes | --out) [[ $# -ge 2 ]] || { echo "train.sh: $1 needs a value" >&2; exit 2; }; printf -v "${1#--}" %s "$2"; shift 2 ;;
    --quick) quick=1; shift ;;
    --check) check=1; shift ;;
    --decoding) decoding=1; shift ;;
    *) sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; [[ $1 == -h || $1 == --help ]]; exit $(($? * 2)) ;;
  esac
done
java=${JAVA:-${JAVA_HOME:+$JAVA_HOME/bin/}java}
missing() { echo "train.sh: missing: $*" >&2; exit 3; }

# ---- what it runs with --------------------------------------------------------------------------------------------

list=$root/target/runtime-classpath.txt
if [[ -z ${TEAMTR_CLASSPATH:-} ]]; then # set where there is no checkout to look in
  [[ -f $list && -d $root/target/classes ]] || missing "a build; run ./teamtr doctor first"
  TEAMTR_CLASSPATH=$root/target/classes:$root/target/native:$root/target/native-gpu:$(< "$list")
fi
command -v "$java" > /dev/null || missing "java; set JAVA_HOME"
class_path=$TEAMTR_CLASSPATH
if [[ $device == cuda ]]; then
  cpu=$(tr ':' '\n' <<< "$class_path" | grep -E '/pytorch-[^/]*-linux-x86_64\.jar$' || true)
  if [[ -n $cpu ]]; then
    gpu=${cpu%.jar}-gpu.jar version=$(basename "$(dirname "$cpu")")
    [[ -f $gpu ]] || missing "libtorch's natives for CUDA (458 MB); ./mvnw dependency:get -Dtransitive=false" \
      "-Dartifact=org.bytedeco:pytorch:$version:jar:linux-x86_64-gpu"
    class_path=${class_path//$cpu/$gpu}
  fi
  presets=$(tr ':' '\n' <<< "$class_path" | grep -E '/cuda-[0-9][^/]*\.jar$' | grep -v linux-x86_64 || true)
  if [[ -n $presets ]] && ! grep -q 'cuda-[0-9][^/:]*-linux-x86_64\.jar' <<< "$class_path"; then
    natives=${presets%.jar}-linux-x86_64.jar version=$(basename "$(dirname "$presets")")
    [[ -f $natives ]] || missing "the natives of the JavaCPP Presets for CUDA; ./mvnw dependency:get -Dtransitive=false" \
      "-Dartifact=org.bytedeco:cuda:$version:jar:linux-x86_64"
    class_path+=:$natives
  fi
  LD_LIBRARY_PATH=$("$here/libraries.sh") || exit 3
  export LD_LIBRARY_PATH
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
# Classes that are compiled here: one is part of a package of the library, whose parts of its own it measures.
compiled() { # class, source
  if [[ -f $out/$1.class ]]; then return; fi
  if [[ -f $here/$1.class ]]; then
    mkdir -p "$(dirname "$out/$1")" && cp "$here/$1"*.class "$(dirname "$out/$1")/"
  else
    "${java%java}javac" --release 17 -proc:none -nowarn -cp "$class_path" -d "$out" "$here/$2" || missing "javac"
  fi
}
if [[ $decoding == 1 ]]; then compiled org/teamtr/torch/DecodingSteps DecodingSteps.java; else compiled cuda/Parity Parity.java; fi
[[ $check == 0 ]] || exit 0
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}

# ---- runs ---------------------------------------------------------------------------------------------------------

# Memory in use at its highest: of the device, by nvidia-smi, or of the process.
watch() { # pid, file
  local most=0 now
  while kill -0 "$1" 2> /dev/null; do
    if [[ $device == cuda ]]; then now=$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits --id=0 2> /dev/null | head -n 1)
    else now=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$1/status" 2> /dev/null); now=$((${now:-0} / 1024)); fi
    [[ ${now:-0} -le $most ]] || { most=$now; echo "$most" > "$2"; }
    sleep 0.3
  done
}

train() { # name, arguments...
  local name=$1 status=0 pid
  shift
  rm -rf "${out:?}/$name"
  echo "== $name"
  # shellcheck disable=SC2086 # several options in one variable
  "$java" ${TEAMTR_JAVA_OPTS:--Xmx4g} -cp "$out:$class_path" org.teamtr.cli.Main train "$@" --set "hardware.device=$device" \
    --out "$out/$name" > "$out/$name.log" 2>&1 &
  pid=$!
  watch "$pid" "$out/$name.memory" &
  wait "$pid" || status=$?
  wait
  if [[ $status != 0 ]]; then
    tail -n 15 "$out/$name.log"
    echo "$name: FAILED with exit code $status; all it said is in $out/$name.log"
    return 1
  fi
  grep -A 40 '^memory in GB' "$out/$name.log" | sed -n '/^memory in GB/,/^there is/p' || true
  # A line for each update, and the sums.
  awk -v peak="$(cat "$out/$name.memory" 2> /dev/null || echo 0)" -v where="$([[ $device == cuda ]] && echo "device" || echo "process")" '
    function number(key,  m) { return match($0, "\"" key "\": *-?[0-9][0-9.eE+-]*") ? substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) + 0 : 0 }
    {
      tokens += number("tokens"); trained += number("trained_tokens"); rollout += number("seconds_rollout")
      update += number("seconds_update"); kl += number("seconds_kl"); n++
      if (number("score_gap") > gap) gap = number("score_gap")
      if (number("kl_floor") > floor) floor = number("kl_floor")
      if (match($0, /"unchanged_by": *null/)) kept++
      if (match($0, /"out_of_region": *true/)) outside++
    }
    END {
      printf "updates %d, that changed the policy %d, out of region %d\n", n, kept, outside
      printf "rollouts %.0f tokens/s, updates %.0f trained tokens/s, of which the monitor %.0f %% of the time\n", \
        rollout ? tokens / rollout : 0, update + kl ? trained / (update + kl) : 0, update + kl ? 100 * kl / (update + kl) : 0
      printf "largest gap between sampling and scoring %.3g nat, KL floor %.3g nat\n", gap, floor
      printf "peak memory of the %s %.1f GB\n", where, peak * 1.048576e-3
    }' "$out/$name/metrics.jsonl"
}

status=0
if [[ $decoding == 1 ]]; then
  [[ -f $out/$shape/config.json ]] || "$here/model.sh" "$out/$shape" "$shape"
  rows=192 steps=40
  [[ $quick == 0 ]] || rows=6 steps=5
  ways="libtorch kernels graphs"
  [[ $device == cuda ]] || ways="libtorch kernels" # graphs are CUDA's
  for dtype in $dtypes; do
    echo "== a decoding step, $shape, $dtype, $device"
    for way in $ways; do
      code=0
      # shellcheck disable=SC2086 # several options in one variable
      timeout -k 5 45 "$java" ${TEAMTR_JAVA_OPTS:--Xmx4g} -cp "$out:$class_path" org.teamtr.torch.DecodingSteps "$out/$shape/config.json" \
        "$device" "$dtype" "$rows" 256 "$steps" "$way" 2> "$out/$way-$dtype.log" || code=$?
      [[ $code == 0 ]] && continue
      tail -n 5 "$out/$way-$dtype.log"
      echo "$way, $dtype: FAILED with exit code $code (124: it took more than 45 s)"
      status=1
    done
  done
  exit $status
fi
if [[ $quick == 1 ]]; then
  builtin=(--set warm_start.steps=5 --set rollout.prompts=4 --set task.budget.agents=2 --set eval.prompts=8)
  size=(--set rollout.prompts=2 --set rollout.group=4 --set rollout.max_new_tokens=8)
else
  builtin=()
  size=(--set rollout.prompts=24 --set rollout.group=8 --set rollout.max_new_tokens=128)
fi
train built-in --set train.stages=1 "${builtin[@]}" || status=1

[[ -f $out/$shape/config.json ]] || "$here/model.sh" "$out/$shape" "$shape"
for dtype in $dtypes; do
  cat > "$out/team-$dtype.yaml" <<YAML
# Written by cuda/train.sh: three policies of a real size, all weights trained, from random weights.
task: {name: files, files: {train: "$out/$shape/prompts.jsonl", verifier: cuda.Parity}}
team:
  agents:
    - {role: planner, policy: planner, template: "{prompt}\n"}
    - {role: solver, policy: solver, template: "{prompt}\n{transcript}", message: "{text}\n"}
    - {role: critic, policy: critic, template: "{prompt}\n{transcript}", message: "{text}\n"}
policies:
  planner: {model: "$out/$shape", random: true, dtype: $dtype}
  solver: {model: "$out/$shape", random: true, dtype: $dtype}
  critic: {model: "$out/$shape", random: true, dtype: $dtype}
train: {stages: 1, order: fixed}
rollout: {validation_fraction: 0}
trust_region: {floor: warn}
optimiser: {micro_batch_tokens: 4096}
eval: {every: 0, prompts: 4, transcripts: 1}
YAML
  train "team-$dtype" "$out/team-$dtype.yaml" "${size[@]}" || status=1
done
exit $status
