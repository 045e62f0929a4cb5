#!/usr/bin/env bash
# Instructions that a native kernel executes per logit, counted by callgrind: the same number every time.
#   jmh/instructions.sh KERNEL LEVEL,DTYPE [FOLDER]     for example LogProbs avx2,F32; levels are portable and avx2, since valgrind
#                                                       knows no AVX-512 yet. FOLDER has another libteamtr.so
# Needs the natives of the repository's build, g++ and valgrind; exits with 77 and says why where they are not there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
native=target/native-install
libraries=${3:-$native/lib}
program=jmh/target/instructions
rows=2 vocab=32768

case $1 in # the call whose instructions count, with all that it calls
  LogProbs) function=teamtr_log_probs ;;
  LogProbsBackward) function=teamtr_log_probs_backward ;;
  TokenKl | TokenKl-far) function=teamtr_kl ;;
  TokenKlBackward) function=teamtr_kl_backward ;;
  PolicyLoss) function=teamtr_policy_loss ;;
  Sampling) function=teamtr_sample ;;
  *) echo "no such kernel: $1"; exit 2 ;;
esac

skip() { echo "$*"; exit 77; }
command -v valgrind > /dev/null || skip "no valgrind found; on Debian or Ubuntu: apt-get install valgrind"
[[ -f $native/lib/libteamtr.so ]] || skip "no $native/lib/libteamtr.so; build the repository first"

if [[ ! $program -nt jmh/native/instructions.cpp || ! $program -nt $native/include/teamtr.h ]]; then
  mkdir -p jmh/target
  g++ -std=c++17 -O1 -I $native/include jmh/native/instructions.cpp -o $program -L $native/lib -lteamtr
fi
counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
log=$(LD_LIBRARY_PATH=$libraries valgrind --tool=callgrind --callgrind-out-file="$counts" --toggle-collect=$function \
  $program "$1" "${2%,*}" "${2#*,}" $rows $vocab 2>&1) || { code=$?; echo "$log"; exit $code; }
awk -v logits=$((rows * vocab)) '/^(totals|summary):/ { printf "%.4f\n", $2 / logits; exit }' "$counts"
