#!/usr/bin/env bash
# Builds libteamtr and installs it.
#   native/build.sh PREFIX [CUDA [SKIP_SIMT]]    CUDA is AUTO (the default: if there is an nvcc), ON or OFF; SKIP_SIMT is true or false
#   native/build.sh --check                      only says what is missing on this machine
#
# What is installed: PREFIX/include, PREFIX/lib/libteamtr.so without CUDA, PREFIX/gpu/libteamtr.so with CUDA kernels, and, if
# SKIP_SIMT is false, PREFIX/simt/libteamtr.so, whose CUDA kernels run on the host, for tests. Called by Maven (phase initialize);
# can be run by hand. Objects go to PREFIX/../native-build-CUDA, so a second run compiles only what changed. CXX names another
# compiler for the kernels, CUDACXX another nvcc, CUDAARCHS the architectures (default: this machine's GPU, or else 90; `release`:
# 80, 90, 100, 120 and PTX), TEAMTR_JOBS the number of jobs.
set -euo pipefail

say() { echo "teamtr: $*" >&2; }
fail() { say "$*"; exit 1; }

# Everything a build needs, each missing thing in one line with its remedy.
check() {
  local missing=0 version
  if [[ $(uname -s)-$(uname -m) != Linux-x86_64 ]]; then
    say "the native kernels build on Linux x86-64 only, and this is $(uname -s) $(uname -m)"
    missing=1
  fi
  if ! command -v cmake > /dev/null; then
    say "no cmake found; on Debian or Ubuntu: apt-get install cmake"
    missing=1
  else
    version=$(cmake --version | sed -n '1s/[^0-9]*\([0-9][0-9.]*\).*/\1/p')
    if [[ $(printf '%s\n' 3.18 "$version" | sort -V | head -n 1) != 3.18 ]]; then
      say "cmake 3.18 or newer is needed, found $version; on Debian or Ubuntu: apt-get install cmake"
      missing=1
    fi
  fi
  # g++ by name: JavaCPP compiles the JNI glue with it, whatever CXX says.
  if ! command -v g++ > /dev/null; then
    say "no C++17 compiler found; on Debian or Ubuntu: apt-get install g++"
    missing=1
  elif ! echo '#include <optional>
               std::optional<int> o;' | ${CXX:-g++} -std=c++17 -fsyntax-only -x c++ - 2> /dev/null; then
    say "${CXX:-g++} does not compile C++17; on Debian or Ubuntu: apt-get install g++, or set CXX to another compiler"
    missing=1
  fi
  if ! command -v make > /dev/null && ! command -v ninja > /dev/null; then
    say "no make found; on Debian or Ubuntu: apt-get install make"
    missing=1
  fi
  return $missing
}

[[ $# -ge 1 ]] || fail "usage: native/build.sh PREFIX [AUTO|ON|OFF], or native/build.sh --check"
if [[ $1 == --check ]]; then
  check
  exit
fi

nvcc() {
  command -v "${CUDACXX:-nvcc}" || { [[ -x /usr/local/cuda/bin/nvcc ]] && echo /usr/local/cuda/bin/nvcc; }
}

cuda=${2:-AUTO}
case $cuda in
  AUTO) cuda=OFF; ! nvcc > /dev/null || cuda=ON ;;
  ON) nvcc > /dev/null || fail "cmake.cuda=ON: no nvcc on the PATH or in /usr/local/cuda/bin; install the CUDA toolkit, or name" \
    "its nvcc in CUDACXX, or build with -Dcmake.cuda=OFF" ;;
  OFF) ;;
  *) fail "cmake.cuda must be AUTO, ON or OFF, not '$cuda'" ;;
esac
[[ ${3:-true} == true ]] && simt=OFF || simt=ON
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
build_dir=$(dirname "$prefix")/native-build-$cuda

cache=$build_dir/CMakeCache.txt
if [[ -f $cache ]] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$source_dir" "$cache"; then
  rm -rf "$build_dir" # made in another place; CMake would refuse it
fi
options=(-DTEAMTR_CUDA="$cuda" -DTEAMTR_SIMT=$simt -DCMAKE_CXX_COMPILER="${CXX:-g++}")
if [[ $cuda == ON ]]; then
  gpu=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | sed -n '1s/[^0-9]//gp') || true
  architectures=${CUDAARCHS:-${gpu:-90}}
  [[ $architectures != release ]] || architectures="80-real;90-real;100-real;120"
  options+=(-DCMAKE_CUDA_COMPILER="$(nvcc)" -DCMAKE_CUDA_HOST_COMPILER="${CXX:-g++}"
    -DCMAKE_CUDA_ARCHITECTURES="$architectures")
fi
if [[ $(cat "$build_dir/configured" 2> /dev/null) != "${options[*]}" ]]; then
  check || exit 1
  generator=()
  command -v make > /dev/null || generator=(-G Ninja)
  cmake -S "$source_dir" -B "$build_dir" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release "${options[@]}" \
    -DCMAKE_INSTALL_PREFIX="$prefix"
  echo "${options[*]}" > "$build_dir/configured"
fi
jobs=${TEAMTR_JOBS:-$(nproc)}
cmake --build "$build_dir" --parallel "$jobs"
rm -rf "$prefix/gpu" # of an earlier build with CUDA
cmake --install "$build_dir" --prefix "$prefix" > /dev/null
