#!/usr/bin/env bash
# Builds libteamtr and installs it.
#   native/build.sh PREFIX [CUDA]   CUDA is ON or OFF (the default)
#   native/build.sh --check         only says what is missing on this machine
#
# Called by Maven (phase initialize); can be run by hand. Objects go to PREFIX/../native-build-CUDA, so a second
# run compiles only what changed. CXX names another compiler for the kernels, TEAMTR_JOBS the number of jobs.
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

[[ $# -ge 1 ]] || fail "usage: native/build.sh PREFIX [ON|OFF], or native/build.sh --check"
if [[ $1 == --check ]]; then
  check
  exit
fi

cuda=${2:-OFF}
[[ $cuda == ON || $cuda == OFF ]] || fail "cmake.cuda must be ON or OFF, not '$cuda'"
[[ $cuda == OFF ]] || fail "cmake.cuda=ON: there are no CUDA kernels in this source tree; build with -Dcmake.cuda=OFF"
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
build_dir=$(dirname "$prefix")/native-build-$cuda

cache=$build_dir/CMakeCache.txt
if [[ -f $cache ]] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$source_dir" "$cache"; then
  rm -rf "$build_dir" # made in another place; CMake would refuse it
fi
if [[ ! -f $build_dir/configured ]]; then
  check || exit 1
  generator=()
  command -v make > /dev/null || generator=(-G Ninja)
  cmake -S "$source_dir" -B "$build_dir" "${generator[@]}" -DCMAKE_CXX_COMPILER="${CXX:-g++}" \
    -DCMAKE_BUILD_TYPE=Release -DTEAMTR_CUDA="$cuda" -DCMAKE_INSTALL_PREFIX="$prefix"
  touch "$build_dir/configured"
fi
cmake --build "$build_dir" --parallel "${TEAMTR_JOBS:-$(nproc)}"
cmake --install "$build_dir" --prefix "$prefix" > /dev/null
