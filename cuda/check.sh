#!/usr/bin/env bash
# All that can only be seen on a GPU, in one command and under 10 minutes: build, tests, benchmark, sanitizers, Java, training.
#
#   cuda/check.sh [--out FOLDER] [--steps LIST] [--bundle FOLDER] [--build FOLDER] [--python PYTHON]
#
# Wants Linux x86-64 with an NVIDIA GPU and its driver, nvcc, cmake and g++. More is tested with more:
#   Python with PyTorch             the benchmark beside its peers (cuda/bench.py); else the kernels alone (cuda/bench.cu)
#   compute-sanitizer               memcheck, racecheck, initcheck, synccheck on small shapes
#   a JDK and Maven's repository    the Java tests tagged cuda, and those of the kernels with all their memory on the GPU
#   --bundle FOLDER                 the same without a JDK or a network: see cuda/bundle.sh
#   libtorch's natives for CUDA     decoding steps, timed; training, of the built-in task and of three policies of a real size: see
#                                   cuda/train.sh, which names what it wants, and may be run by itself
#
# Steps are in this order, and each has a time limit: build (always), tests, bench, sanitizers, java, decoding, training. --steps names
# those to run, with commas; the default is all. --steps build needs no GPU: what it leaves in --build for the architecture that CUDAARCHS
# names (default 90) is not built again where it was of the same commit, so that the machine with the GPU needs no nvcc. Every step runs,
# whatever became of those before it; one that cannot run is skipped with the reason. Where a GPU is to be had for a few minutes at a time:
#   cuda/check.sh --steps build                       before, elsewhere
#   cuda/check.sh --steps tests,bench,sanitizers      about 6 minutes at most
#   cuda/check.sh --steps java,decoding,training      the rest, into the same folder
# --out gets check.log, check.json (each step's result), bench.json and table.md, which say machine, driver and commit and are written
# as results come, and training-NAME.jsonl; the default is cuda/results/GPU-COMMIT. --build is where things are compiled (default target/check).
# Exit code 0 if no step failed, 3 if there is no GPU. TEAMTR_COMMIT names the commit where there is no git to ask.
set -uo pipefail

total=580 # seconds for everything
build_limit=200

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
out="" bundle="" build=$root/target/check python="" steps=tests,bench,sanitizers,java,decoding,training
while [[ $# -gt 0 ]]; do
  case $1 in
    --out | --steps | --bundle | --build | --python)
      [[ $# -ge 2 ]] || { echo "check.sh: $1 needs a value" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    *) sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; [[ $1 == -h || $1 == --help ]]; exit $(($? * 2)) ;;
  esac
done
wants() { [[ ,$steps, == *,$1,* ]]; }
for step in ${steps//,/ }; do
  case $step in
    build | tests | bench | sanitizers | java | decoding | training) ;;
    *) echo "check.sh: no step is called $step; they are build, tests, bench, sanitizers, java, decoding, training" >&2; exit 2 ;;
  esac
done
if [[ -n $bundle ]]; then
  if [[ ! -f $bundle/bundle.txt ]]; then
    echo "check.sh: $bundle is no bundle of cuda/bundle.sh" >&2
    exit 2
  fi
  bundle=$(cd "$bundle" && pwd)
fi

for folder in "${CUDA_HOME:-/usr/local/cuda}/bin" "${CUDA_HOME:-/usr/local/cuda}/compute-sanitizer" /usr/local/nvidia/bin; do
  [[ ! -d $folder ]] || PATH=$PATH:$folder
done
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader --id=0 2> /dev/null | head -n 1)
architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader --id=0 2> /dev/null | head -n 1 | tr -d .)
if [[ $steps == build ]]; then # may take longer: this machine may have few cores
  architecture=${CUDAARCHS:-90} out=${out:-$build} total=3600 build_limit=3000
elif [[ -z $gpu && ! -e /dev/nvidia0 ]]; then
  if command -v nvidia-smi > /dev/null; then echo "check.sh: nvidia-smi finds no GPU; nothing can be checked here" >&2
  else echo "check.sh: no nvidia-smi and no /dev/nvidia0: this machine has no NVIDIA GPU, and nothing can be checked here" >&2; fi
  exit 3
fi
[[ $architecture =~ ^[0-9]+$ ]] || architecture=90
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader --id=0 2> /dev/null | head -n 1)
compiler=$(nvcc --version 2> /dev/null | sed -n 's/.*release [^,]*, V\(.*\)/\1/p')
date=$(date -u +%Y-%m-%dT%H:%M:%SZ)
commit=${TEAMTR_COMMIT:-}
if [[ -z $commit ]] && commit=$(git -C "$root" rev-parse --short=7 HEAD 2> /dev/null); then
  [[ -z $(git -C "$root" status --porcelain --untracked-files=no) ]] || commit+=-changed
elif [[ -z $commit && -n $bundle ]]; then
  commit=$(sed -n 's/^commit //p' "$bundle/bundle.txt")
fi
export TEAMTR_COMMIT=${commit:-unknown}

slug=$(tr -cs '[:alnum:]' - <<< "${gpu:-no-gpu}" | tr '[:upper:]' '[:lower:]' | sed 's/^-*//; s/-*$//')
out=${out:-$here/results/$slug-$TEAMTR_COMMIT}
mkdir -p "$out" "$build" || exit 2
out=$(cd "$out" && pwd)
build=$(cd "$build" && pwd)

prefix=$build/install # Maven is given the same, so that it compiles none of this again
native=$build/native-build-ON
library=$prefix/gpu/libteamtr.so
tests=()
for source in "$here"/test/*.cpp; do tests+=("$(basename "$source" .cpp)_gpu"); done
stamp="$TEAMTR_COMMIT sm_$architecture" # what was built; not reused if the work tree differs from the commit
before=1
[[ -f $build/built && $(< "$build/built") == "$stamp" && ! $stamp =~ unknown|-changed && -f $library ]] || before=0
for name in "${tests[@]}"; do [[ -x $native/test/$name ]] || before=0; done
if [[ $before == 0 ]]; then
  for tool in nvcc cmake "${CXX:-g++}"; do
    command -v "$tool" > /dev/null || { echo "check.sh: no $tool found; the kernels cannot be built" >&2; exit 2; }
  done
fi
log=$out/check.log steps_done=""
if [[ -f $out/check.json ]]; then # of other steps, run before
  while IFS= read -r line; do steps_done+="${steps_done:+,}"$'\n'"${line%,}"; done < <(grep '^  {"step"' "$out/check.json")
fi

# ---- steps --------------------------------------------------------------------------------------------------------

summary=() passed=0 failed=0 skipped=0
say() { printf '%s\n' "$@" | tee -a "$log"; }
left() { echo $((total - SECONDS)); }
quoted() { local text=${1//\\/\\\\}; printf '"%s"' "$(tr -d '\000-\037' <<< "${text//\"/\\\"}")"; }

note() { # title, result, seconds
  summary+=("$(printf '%-44s %s' "$1" "$2")")
  say "-- $1: $2"
  steps_done+="${steps_done:+,}"$'\n'"  {\"step\": $(quoted "$1"), \"result\": $(quoted "$2"), \"seconds\": ${3:-0}}"
  {
    echo "{\"gpu\": $(quoted "${gpu:-no GPU}"), \"architecture\": \"sm_$architecture\", \"driver\": $(quoted "$driver"),"
    echo " \"nvcc\": $(quoted "$compiler"), \"commit\": $(quoted "$TEAMTR_COMMIT"), \"date\": \"$date\", \"steps\": [$steps_done"
    echo "]}"
  } > "$out/check.json"
}

skip() { # title, reason
  say "" "== $1"
  note "$1" "skipped: $2"
  skipped=$((skipped + 1))
}

run() { # title, seconds, command...
  local title=$1 limit=$2 started=$SECONDS status=0
  shift 2
  [[ $limit -le $(left) ]] || limit=$(left)
  say "" "== $title (at most $limit s)"
  if [[ $limit -lt 5 ]]; then
    note "$title" "FAILED: no time left"
    failed=$((failed + 1))
    return 1
  fi
  timeout -k 5 "$limit" "$@" < /dev/null 2>&1 | tee -a "$log" || status=${PIPESTATUS[0]}
  local took=$((SECONDS - started))
  if [[ $status == 0 ]]; then
    note "$title" "passed in $took s" "$took"
    passed=$((passed + 1))
    return 0
  elif [[ $took -ge $limit ]]; then
    note "$title" "FAILED: ran past $limit s" "$took"
  else
    note "$title" "FAILED with exit code $status after $took s" "$took"
  fi
  failed=$((failed + 1))
  return 1
}

have() { command -v "$1" > /dev/null; }

# ---- the machine --------------------------------------------------------------------------------------------------

cat > "$build/probe.cu" << 'CUDA'
#include <cstdio>
#include <cuda_runtime.h>
int main() {
  int driver = 0, runtime = 0, pageable = 0, clusters = 0;
  cudaDeviceProp p;
  const cudaError_t e = cudaGetDeviceProperties(&p, 0);
  if (e != cudaSuccess) return std::printf("no CUDA device: %s\n", cudaGetErrorString(e)), 1;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  cudaDeviceGetAttribute(&pageable, cudaDevAttrPageableMemoryAccess, 0);
  cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, 0);
  std::printf("%s, sm_%d%d, %d multiprocessors, %zu MiB, L2 %d KiB\n", p.name, p.major, p.minor, p.multiProcessorCount,
              p.totalGlobalMem >> 20, p.l2CacheSize >> 10);
  std::printf("shared memory: %zu KiB a block, %zu KiB a multiprocessor; clusters: %s\n", p.sharedMemPerBlockOptin >> 10,
              p.sharedMemPerMultiprocessor >> 10, clusters ? "yes" : "no");
  std::printf("CUDA of the driver %d.%d, of the runtime %d.%d\n", driver / 1000, driver / 10 % 100, runtime / 1000,
              runtime / 10 % 100);
  std::printf("host memory as it is within the device's reach: %s\n", pageable ? "yes" : "no");
  return 0;
}
CUDA

machine() { # goes on without what cannot be found out
  local fields=name,driver_version,compute_cap,memory.total,clocks.max.sm,clocks.max.mem,power.limit,ecc.mode.current
  echo "commit $TEAMTR_COMMIT, $(date -u +%Y-%m-%dT%H:%M:%SZ), $(uname -sr), $(nproc) cores"
  nvcc --version | tail -n 2 | head -n 1
  cmake --version | head -n 1
  "${CXX:-g++}" --version | head -n 1
  nvidia-smi --query-gpu=$fields --format=csv
  [[ $before == 1 && -x $build/probe ]] || nvcc -std=c++17 "-arch=sm_$architecture" -cudart=static -o "$build/probe" "$build/probe.cu" || return 1
  [[ $steps == build ]] || "$build/probe"
}
export -f machine
export build architecture before steps
run "Machine" 60 bash -c machine

# ---- build --------------------------------------------------------------------------------------------------------

compile() {
  "$root/native/build.sh" "$prefix" ON || return 1
  cmake -DTEAMTR_TEST=ON "$native" > /dev/null || return 1
  cmake --build "$native" --parallel "${TEAMTR_JOBS:-$(nproc)}" --target "$@" || return 1
  cmake -DTEAMTR_TEST=OFF "$native" > /dev/null
  [[ $steps != build ]] || bench_program || return 1
  echo "$stamp" > "$build/built"
}
bench_program() { # for machines without PyTorch
  [[ -x $build/bench ]] || nvcc -std=c++17 -O2 "-arch=sm_$architecture" -cudart=static "-I$root/native/include" -o "$build/bench" \
    "$here/bench.cu" "$library" -Xlinker -rpath -Xlinker "\$ORIGIN/install/gpu"
}
export -f compile bench_program
export here library
export root native prefix stamp CUDAARCHS="$architecture-real" CUDAFLAGS="${CUDAFLAGS:-} -lineinfo" # so that compute-sanitizer names source lines
export TEAMTR_BUDGETS=report # another compiler's count must not keep the kernels from being measured
built=0
title="Build for sm_$architecture"
if [[ $before == 1 ]]; then
  say "" "== $title"
  note "$title" "built before, of this commit"
  built=1
else
  rm -rf "$prefix" "$build/built" "$build/bench"
  run "$title" "$build_limit" bash -o pipefail -c 'compile "$@"' compile "${tests[@]}" && built=1
fi

# ---- native tests -------------------------------------------------------------------------------------------------

# All at once, since each mostly computes references on one core of the host; lines begin with the program's name.
programs() { # what runs each, with options, or "" for itself; arguments of each; names
  local with=$1 arguments=$2 name pids=() status=0
  shift 2
  for name in "$@"; do
    (
      set -o pipefail
      # shellcheck disable=SC2086 # several words in one variable
      { $with "$native/test/$name" $arguments 2>&1 || { echo "FAILED with exit code $?"; false; }; } | sed -u "s/^/$name: /"
    ) &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  return $status
}
export -f programs
if wants tests; then
  title="Native tests"
  if [[ $built == 1 ]]; then run "$title" 90 bash -c 'programs "" "" "$@"' programs "${tests[@]}"; else skip "$title" "not built"; fi
fi

# ---- benchmark ----------------------------------------------------------------------------------------------------

for candidate in "$python" python3 python; do
  if [[ -n $candidate ]] && "$candidate" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' > /dev/null 2>&1; then
    python=$candidate
    break
  fi
  python=""
done
title="Benchmark"
seconds=$(($(left) - 40))
[[ $seconds -le 190 ]] || seconds=190
if ! wants bench; then
  :
elif [[ $built == 0 ]]; then
  skip "$title" "not built"
elif [[ -n $python ]]; then
  run "$title" 230 "$python" "$here/bench.py" --natives "$library" --out "$out" --seconds "$seconds"
elif [[ -f $here/bench.cu ]]; then
  bench() { bench_program && "$build/bench" | tee "$out/table.md"; }
  export -f bench
  export out
  say "" "No Python with PyTorch that sees the GPU: the kernels without their peers."
  run "$title" 120 bash -o pipefail -c bench
else
  skip "$title" "no Python with PyTorch that sees the GPU"
fi

# ---- sanitizers ---------------------------------------------------------------------------------------------------

if wants sanitizers; then
  for tool in memcheck racecheck initcheck synccheck; do
    title="compute-sanitizer $tool"
    if [[ $built == 0 ]]; then
      skip "$title" "not built"
    elif ! have compute-sanitizer; then
      skip "$title" "compute-sanitizer is not installed"
    else
      run "$title" 45 bash -c 'programs "$@"' programs \
        "compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 20" --small "${tests[@]}"
    fi
  done
fi

# ---- Java ---------------------------------------------------------------------------------------------------------

reach="$(grep -c 'within the device.s reach: yes' "$log")"
tagged="Java tests tagged cuda"
placed="Java tests of the kernels, memory on the GPU"
no_reach="this GPU cannot reach the JVM's memory (cudaDevAttrPageableMemoryAccess is 0)"
grep -q 'within the device.s reach: no' "$log" || no_reach="no GPU was found"
heap=4g
# libcudart.so, for the JavaCPP Presets for CUDA: of the Python that has PyTorch, or of a toolkit
[[ -z $python ]] || PATH=$(dirname "$(command -v "$python")"):$PATH
! have nvcc || export CUDA_HOME=${CUDA_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")}
folders=$("$here/libraries.sh" 2> /dev/null) || folders=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}${CUDA_HOME:-/usr/local/cuda}/lib64
export LD_LIBRARY_PATH=$folders

if ! wants java; then
  :
elif [[ $built == 0 ]]; then
  skip "$tagged" "not built"
  skip "$placed" "not built"
elif [[ -n $bundle ]]; then
  # The library of this build beside the JNI library of the bundle, where the Loader looks first.
  libraries=$build/java/org/teamtr/kernels/internal/linux-x86_64-gpu
  mkdir -p "$libraries"
  cp "$bundle/native/org/teamtr/kernels/internal/linux-x86_64/libjniteamtr.so" "$library" "$libraries/"
  class_path="$build/java:$bundle/native:$bundle/test-classes:$bundle/classes:$bundle/lib/*"
  java=("$bundle/runtime/bin/java" "-Xmx$heap" "-XX:ErrorFile=$out/hs_err_pid%p.log" -cp "$class_path")
  if compgen -G "$bundle/lib/cuda-*-linux-x86_64.jar" > /dev/null; then
    run "$tagged" 60 "${java[@]}" RunTests org.teamtr.kernels +cuda -large
  else
    skip "$tagged" "the bundle has no natives of the JavaCPP Presets for CUDA"
  fi
  if [[ $reach != 0 ]]; then
    run "$placed" 90 env CUDA_LAUNCH_BLOCKING=1 "${java[@]}" -Dteamtr.test.device=cuda \
      RunTests org.teamtr.kernels -cuda -cpu -large
  else
    skip "$placed" "$no_reach"
  fi
elif have "${JAVA_HOME:+$JAVA_HOME/bin/}javac"; then
  maven=("$root/mvnw" -q -B -ntp -f "$root/pom.xml" -Pcuda -Dpytorch.natives=linux-x86_64 -Dcmake.cuda=ON "-Dnative.prefix=$prefix" -Dsimt.skip=true
    "-Dtest.heap=$heap")
  run "$tagged" 120 "${maven[@]}" -Dgroups=cuda -Dtest.excludedGroups=large test
  if [[ $reach != 0 ]]; then
    run "$placed" 90 env CUDA_LAUNCH_BLOCKING=1 "${maven[@]}" -Dteamtr.test.device=cuda '-Dtest=org.teamtr.kernels.*Test' \
      -Dtest.excludedGroups=large,cuda,cpu test
  else
    skip "$placed" "$no_reach"
  fi
else
  skip "$tagged" "no JDK, and no --bundle"
  skip "$placed" "no JDK, and no --bundle"
fi

# ---- decoding steps, training -------------------------------------------------------------------------------------

trainer() { # title, seconds, step, option of train.sh
  local title=$1 limit=$2 step=$3 wanted
  shift 3
  if ! wants "$step"; then
    return
  elif [[ $built == 0 ]]; then
    skip "$title" "not built"
  elif [[ -n $bundle && -z ${TEAMTR_CLASSPATH:-} ]]; then
    skip "$title" "the bundle has no libtorch; TEAMTR_CLASSPATH names jars and folders that have"
  else
    [[ -z $bundle ]] || export JAVA=$bundle/runtime/bin/java
    # Its own answer for what is missing is 3.
    wanted=$("$here/train.sh" "$@" --out "$build/training" --check 2>&1) && wanted=""
    if [[ -n $wanted ]]; then skip "$title" "${wanted#train.sh: }"
    else run "$title" "$limit" "$here/train.sh" "$@" --out "$build/training"; fi
  fi
}
trainer "Decoding steps" 100 decoding --decoding --dtypes bf16
trainer "Training" 200 training
for metrics in "$build"/training/*/metrics.jsonl; do
  [[ ! -f $metrics ]] || cp "$metrics" "$out/training-$(basename "$(dirname "$metrics")").jsonl"
done

# ---- the end ------------------------------------------------------------------------------------------------------

say "" "== Summary: ${gpu:-no GPU}, commit $TEAMTR_COMMIT, $SECONDS s; files in $out"
say "${summary[@]}"
say "$passed passed, $failed failed, $skipped skipped"
[[ $failed == 0 ]]
