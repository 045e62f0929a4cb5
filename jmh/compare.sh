#!/usr/bin/env bash
# The native CPU kernels of this build beside those of another commit.
#   jmh/compare.sh COMMIT times [MINUTES [KERNEL]]     what the guard times, in f32 and bf16: milliseconds then and now, as many rounds as MINUTES
#                                                      (default 7) leave time for; KERNEL is a part of the names of those to time
#   jmh/compare.sh COMMIT instructions                 what the guard counts: instructions per logit then and now (needs valgrind)
#   jmh/compare.sh COMMIT build                        only builds that commit's library, before times are taken
# Builds the commit's libteamtr.so, without CUDA, in target/compare-COMMIT. The benchmarks and Java classes are this build's for both: they call
# either library through the C ABI. Where the commit is older than two functions that the classes call today, these are
# added to its library: teamtr_kl_with_statistics and teamtr_kl_backward_from_statistics, which call teamtr_kl and teamtr_kl_backward, since
# the benchmarks ask for no statistics. Its other functions have the same arguments since commit 3590011. Times want an idle machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ $# -ge 2 && $2 =~ ^(times|instructions|build)$ ]] || { sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 2; }
commit=$(git rev-parse --short "$1^{commit}")
folder=$PWD/target/compare-$commit

number() { sed -n 's/.*teamtr_abi(void) { return \([0-9]*\).*/\1/p' "$1"; }
if [[ ! -f $folder/install/lib/libteamtr.so ]]; then
  rm -rf "$folder"
  mkdir -p "$folder/source"
  git archive "$commit" native cuda | tar -x -C "$folder/source"
  main=$folder/source/native/src/teamtr.cpp
  sed -i "s/\(teamtr_abi(void) { return \)[0-9]*/\1$(number native/src/teamtr.cpp)/" "$main"
  if ! grep -q teamtr_kl_with_statistics "$folder/source/native/include/teamtr.h"; then
    cat >> "$main" << 'CPP'
extern "C" TEAMTR_API int32_t teamtr_kl_with_statistics(
    int32_t device, teamtr_address stream, teamtr_address p, int32_t dtype, int64_t rows, int64_t vocab, int64_t p_row_stride,
    int64_t p_rows_per_batch, int64_t p_batch_stride, teamtr_address q, int64_t q_row_stride, int64_t q_rows_per_batch,
    int64_t q_batch_stride, teamtr_address targets, int32_t target_type, float temperature, teamtr_address temperatures,
    teamtr_address kl, teamtr_address log_probs_p, teamtr_address log_probs_q, teamtr_address entropy_p, teamtr_address entropy_q,
    teamtr_address lse_p, teamtr_address lse_q, teamtr_address log_ratio) {
  if (lse_p || lse_q || log_ratio) return TEAMTR_INVALID;
  return teamtr_kl(device, stream, p, dtype, rows, vocab, p_row_stride, p_rows_per_batch, p_batch_stride, q, q_row_stride,
                   q_rows_per_batch, q_batch_stride, targets, target_type, temperature, temperatures, kl, log_probs_p, log_probs_q,
                   entropy_p, entropy_q);
}
extern "C" TEAMTR_API int32_t teamtr_kl_backward_from_statistics(
    int32_t device, teamtr_address stream, teamtr_address p, int32_t dtype, int64_t rows, int64_t vocab, int64_t p_row_stride,
    int64_t p_rows_per_batch, int64_t p_batch_stride, teamtr_address q, int64_t q_row_stride, int64_t q_rows_per_batch,
    int64_t q_batch_stride, teamtr_address targets, int32_t target_type, float temperature, teamtr_address temperatures,
    teamtr_address, teamtr_address lse_p, teamtr_address lse_q, teamtr_address log_ratio, teamtr_address grad_kl, int32_t wrt_q,
    teamtr_address d, int64_t d_row_stride, int64_t d_rows_per_batch, int64_t d_batch_stride) {
  if (lse_p || lse_q || log_ratio) return TEAMTR_INVALID;
  return teamtr_kl_backward(device, stream, p, dtype, rows, vocab, p_row_stride, p_rows_per_batch, p_batch_stride, q, q_row_stride,
                            q_rows_per_batch, q_batch_stride, targets, target_type, temperature, temperatures, grad_kl, wrt_q, d,
                            d_row_stride, d_rows_per_batch, d_batch_stride);
}
CPP
  fi
  "$folder/source/native/build.sh" "$folder/install" OFF > "$folder/build.log" 2>&1 || { cat "$folder/build.log" >&2; exit 1; }
fi

[[ $2 != build ]] || exit 0
if [[ $2 == times ]]; then
  natives=org/teamtr/kernels/internal/linux-x86_64
  [[ -f target/native/$natives/libjniteamtr.so ]] || { echo "compare.sh: first run ./mvnw -B install -DskipTests" >&2; exit 2; }
  mkdir -p "$folder/natives/$natives"
  cp "$folder/install/lib/libteamtr.so" "target/native/$natives/libjniteamtr.so" "$folder/natives/$natives/"
  jmh/run.sh org.teamtr.jmh.Compare jmh/thresholds.txt "$commit" "$folder/natives" "${3:-7}" "${4:-}"
  exit
fi
echo "Instructions per logit; then is commit $commit."
echo
echo "| kernel | case | then | now | now / then |"
echo "|---|---|---|---|---|"
sed -n 's/^\([A-Za-z-]*\) *| cpu=\([a-z0-9]*\) dtype=\([A-Z0-9]*\) *| instructions .*/\1 \2,\3/p' jmh/thresholds.txt | while read -r kernel case; do
  then=$(jmh/instructions.sh "$kernel" "$case" "$folder/install/lib") || { echo "$then" >&2; exit 1; }
  now=$(jmh/instructions.sh "$kernel" "$case") || { echo "$now" >&2; exit 1; }
  awk -v k="$kernel" -v c="${case/,/ }" -v a="$then" -v b="$now" 'BEGIN { printf "| %s | %s | %.2f | %.2f | %.3f |\n", k, c, a, b, b / a }'
done
