#!/usr/bin/env bash
# A newcomer's first hour, as a test: clone, train, report, evaluate, go on after kill -9, read trained adapters with a reader of
# its own, link the kernels from another project. The last line of every step is looked at. A few minutes on two cores, and two
# more where there is a build to make: --built takes that of this checkout along. Exit code 0 when all of it went well.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/teamtr first hour.XXXXXX") # with blanks in its name, as folders of users have
trap 'rm -rf "$work"' EXIT

step() { printf '\n== %s\n' "$*"; }
fail() {
  printf 'first-hour: %s\n' "$*" >&2
  [[ ! -s $work/err ]] || tail -n 30 "$work/err" >&2
  exit 1
}
# expect REGEX COMMAND...: runs it; the last line of its standard output has to match.
expect() {
  local want=$1 last
  shift
  "$@" > "$work/out" 2> "$work/err" || fail "failed: $*"
  last=$(tail -n 1 "$work/out")
  [[ $last =~ $want ]] || fail "expected a last line like '$want', given '$last', of: $*"
  printf '   %s\n' "$last"
}

step "Clone"
git clone --quiet "file://$root" "$work/teamtr"
cd "$work/teamtr"
if [[ ${1:-} == --built ]]; then
  mkdir target
  cp -a "$root"/target/{*.jar,native,runtime-classpath.txt} target/
  [[ ! -d $root/target/native-gpu ]] || cp -a "$root/target/native-gpu" target/
  touch target/runtime-classpath.txt # newer than the sources, which the clone has just written
fi

step "What is here: ./teamtr doctor"
expect '^All well\.$' ./teamtr doctor

step "A file name outside ASCII, in the locale C"
mkdir "$work/数"
echo 'train: {stages: 3}' > "$work/数/設定.yaml"
expect '^  coordination: false$' env LC_ALL=C ./teamtr check-config "$work/数/設定.yaml"

step "CUDA's libraries, which a build with -Pcuda wants: found in wheels and in LD_LIBRARY_PATH, or named"
wheels=$work/wheels/nvidia # where PyTorch's wheels for CUDA have them
mkdir -p "$wheels/cu13/lib" "$wheels/cudnn/lib" "$work/nccl"
touch "$wheels"/cu13/lib/lib{cudart.so.13,cublas.so.13,cublasLt.so.13,cufft.so.12,cufile.so.0,cupti.so.13,curand.so.10,cusolver.so.12,cusparse.so.12} \
  "$wheels/cudnn/lib/libcudnn.so.9"
if ! { ldconfig -p 2> "$work/err" || true; } | grep -q libnccl.so.2; then # this machine has none of its own
  if PYTHONPATH=$work/wheels cuda/libraries.sh > "$work/out" 2> "$work/err"; then fail "NCCL is not missing"; fi
  grep -q "wants libnccl.so.2, not found here" "$work/err" || fail "NCCL is not named"
fi
touch "$work/nccl/libnccl.so.2"
expect "nvidia/cu13/lib:.*nvidia/cudnn/lib" env PYTHONPATH="$work/wheels" LD_LIBRARY_PATH="$work/nccl" cuda/libraries.sh

step "Train, as README.md says"
expect '^report: .*report\.html$' ./teamtr train

step "Train a small team"
small=(--set task.budget.agents=2 --set warm_start.steps=60 --set train.stages=8 --set rollout.prompts=16 --set eval.prompts=32)
expect '^report: .*report\.html$' ./teamtr train "${small[@]}" --out runs/whole

step "Report"
expect 'report\.html$' ./teamtr report runs/whole

step "Evaluate"
expect '^[0-9,]+ tokens in [0-9.]+ s$' ./teamtr eval runs/whole --k 2

step "The other commands of README.md"
expect '^  coordination: false$' ./teamtr check-config runs/whole/config.yaml
expect '^report: .*report\.html$' ./teamtr train "${small[@]}" --set train.stages=2 --variant naive --processes 2 --out runs/naive
expect '^runs/summaries\.csv$' ./teamtr compare TeamTR=runs/whole naive=runs/naive --summaries runs/summaries.csv
expect '^runs/conversations/solver\.jsonl$' ./teamtr collect runs/naive --out runs/conversations
expect '^report: .*report\.html$' ./teamtr train --resume runs/naive --from runs/conversations
expect '^go on with: +\./teamtr train --resume ' ./teamtr replace runs/naive --agent solver --with tiny --probes 20 --steps 2
expect '\.html$' ./teamtr experiment certificate-exact --quick --out runs/experiments

step "Go on after kill -9"
./teamtr train "${small[@]}" --out runs/killed > "$work/out" 2> "$work/err" &
run=$!
until [[ -d runs/killed/checkpoints/stage-0002 ]]; do
  kill -0 "$run" 2> "$work/out" || fail "the run that was to be killed ended by itself"
  sleep 0.02
done
kill -9 "$run"
wait "$run" 2> "$work/out" || true
[[ ! -f runs/killed/summary.json ]] || fail "the run was over before it was killed"
expect '^report: .*report\.html$' ./teamtr train --resume runs/killed
same() { sed -E 's/"seconds[a-z_]*":[^,}]*,?//g' "$1"; }
cmp <(same runs/whole/metrics.jsonl) <(same runs/killed/metrics.jsonl) || fail "the run that was killed is another one"
for agent in planner solver; do
  cmp runs/{whole,killed}/checkpoints/stage-0008/"$agent"/model.safetensors || fail "$agent has other weights"
done
echo "   the same numbers and weights as without"

step "Train adapters and read them elsewhere"
expect '^report: .*report\.html$' ./teamtr train "${small[@]}" --set train.stages=2 \
  --set 'policies.solver={model: tiny, lora: {rank: 4}}' --out runs/lora
java_bin=${JAVA_HOME:+$JAVA_HOME/bin/}java
expect '^14 adapters of rank 4, ' "$java_bin" src/test/java/org/teamtr/model/AdapterReader.java runs/lora/warm-start \
  runs/lora/checkpoints/stage-0002/solver

step "The ten lines of README.md"
version=$(sed -n 's|^  <version>\(.*\)</version>$|\1|p' pom.xml)
jar=target/teamtr-$version
sed -n '/^```java$/,/^```$/p' README.md | sed '1d; $d' > "$work/Example.java"
digits() { sed -E 's/([0-9]\.[0-9]{3})[0-9]*/\1/g'; } # the last ones differ between CPUs
expect '^KL' "$java_bin" -cp "$jar.jar:$jar-linux-x86_64.jar:$(< target/runtime-classpath.txt)" "$work/Example.java"
cmp <(digits < "$work/out") <(grep '^KL(old' README.md | digits) || fail "README.md shows another output of its example"

step "A router of one's own"
mkdir -p "$work/own/mine"
cat > "$work/own/mine/Turns.java" << 'JAVA'
package mine;

public class Turns implements org.teamtr.team.Router {
    @Override
    public int next(org.teamtr.team.Context context, int agents, long seed) {
        return context.turn() % agents;
    }
}
JAVA
"${java_bin}c" -cp "$jar.jar" "$work/own/mine/Turns.java"
expect '^report: .*report\.html$' env TEAMTR_CLASSPATH="$work/own" ./teamtr train "${small[@]}" --set train.stages=1 \
  --set team.router=mine.Turns --out runs/own

step "A project that links the kernels"
maven=(./mvnw -B -q -ntp)
install=org.apache.maven.plugins:maven-install-plugin:3.2.0:install-file # what ./mvnw install does, without building again
"${maven[@]}" "$install" "-Dfile=$jar.jar" -DpomFile=pom.xml
"${maven[@]}" "$install" "-Dfile=$jar-linux-x86_64.jar" -DpomFile=pom.xml -Dclassifier=linux-x86_64
cp -r src/it/kernels-only "$work/consumer"
property() { sed -n "s|^    <$1>\(.*\)</$1>$|\1|p" pom.xml; }
sed -i -e "s|@project.version@|$version|" -e "s|@javacpp.platform@|linux-x86_64|" \
  -e "s|@resources.plugin.version@|$(property resources.plugin.version)|" \
  -e "s|@compiler.plugin.version@|$(property compiler.plugin.version)|" \
  -e "s|@exec.plugin.version@|$(property exec.plugin.version)|" "$work/consumer/pom.xml"
"${maven[@]}" -f "$work/consumer/pom.xml" process-classes
expect '^KL\(old \|\| new\) \[0\.00000, 0\.10737\]$' grep '^KL' "$work/consumer/target/output.txt" # the order of what it wrote to stdout and stderr is not fixed there

step "All well"
