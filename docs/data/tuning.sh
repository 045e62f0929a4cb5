#!/usr/bin/env bash
# What the kernels need in cache, on one thread: ns per 1,000 logits of a row of 65,536, the shortest of 400 calls, as lines of
# docs/data/tuning.csv. Wants an idle machine with AVX-512.
#   docs/data/tuning.sh COMMIT [FOLDER]     COMMIT names the lines; FOLDER holds libteamtr.so, default target/native-install/lib
#   docs/data/tuning.sh                     the shortest of each case in docs/data/tuning.csv, which holds rounds taken in turns
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [[ $# -eq 0 ]]; then
  awk -F, 'NR > 1 { k = $2 " " $3 " " $1; if (!(k in best) || $4 < best[k]) best[k] = $4 } END { for (k in best) print k, best[k] }' \
    docs/data/tuning.csv | sort
  exit
fi
commit=$1 libraries=${2:-target/native-install/lib}
program=$(mktemp)
trap 'rm -f "$program"' EXIT
g++ -std=c++17 -O2 -I native/include jmh/native/instructions.cpp -o "$program" -L "$libraries" -lteamtr
for kernel in LogProbs LogProbsBackward TokenKl TokenKl-far; do
  for dtype in F32 BF16; do
    echo "$commit,$kernel,$dtype,$(LD_LIBRARY_PATH=$libraries "$program" $kernel avx512 $dtype 1 65536 400)"
  done
done
