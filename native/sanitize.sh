#!/usr/bin/env bash
# Builds the kernels and the programs in native/test and cuda/test under AddressSanitizer + UndefinedBehaviorSanitizer, then under
# ThreadSanitizer, and runs each program under both. To ThreadSanitizer the threads of the CUDA kernels, which run on the host, are
# threads, so that it finds their races in shared and global memory (cuda/simt_host.cpp). Fails on any report and on any failed check.
set -euo pipefail

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target_dir=$source_dir/../target
mkdir -p "$target_dir"
target_dir=$(cd "$target_dir" && pwd)

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_init_order=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}

# ThreadSanitizer wants its shadow memory at fixed places, which address randomisation may occupy.
launcher=()
if setarch "$(uname -m)" -R true 2> /dev/null; then
  launcher=(setarch "$(uname -m)" -R)
fi

run() { # name, sanitizers
  local build_dir=$target_dir/native-$1 source program
  echo "== $1: -fsanitize=$2"
  cmake -S "$source_dir" -B "$build_dir" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTEAMTR_TEST=ON \
    -DTEAMTR_SANITIZE="$2" > "$build_dir.log" || { cat "$build_dir.log"; return 1; }
  cmake --build "$build_dir" --parallel "${TEAMTR_JOBS:-$(nproc)}"
  for source in "$source_dir"/test/*.cpp; do
    program=$build_dir/test/$(basename "$source" .cpp)
    echo "-- $(basename "$program")"
    "${launcher[@]}" "$program"
  done
  for source in "$source_dir"/../cuda/test/*.cpp; do
    program=$build_dir/test/$(basename "$source" .cpp)
    echo "-- $(basename "$program") --small"
    "${launcher[@]}" "$program" --small
  done
}

run asan address,undefined
run tsan thread
echo "== no report"
