/*
 * teamtr_sample: checks, the loop over rows, log-probs of the tokens drawn. The draw itself is in sampling.inl.
 *
 * Contract in teamtr.h. Nothing is allocated, so a call that has passed its checks cannot fail with TEAMTR_NO_MEMORY halfway.
 */
#include "abi.h"

using namespace teamtr;

extern "C" int32_t teamtr_sample(
    int32_t device, teamtr_address stream, teamtr_address logits, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t row_stride, int64_t rows_per_batch, int64_t batch_stride, float temperature, teamtr_address temperatures,
    int64_t top_k, float top_p, float min_p, uint64_t seed, int32_t step, teamtr_address row_ids,
    teamtr_address tokens, int32_t token_type, teamtr_address log_probs, teamtr_address log_probs_kept) {
  const Device dev{device, stream};
  const Matrix x(logits, dtype, rows, vocab, row_stride, rows_per_batch, batch_stride);
  const Temperature temp{temperature, at<float>(temperatures)};
  const int64_t* ids = at<int64_t>(row_ids);
  float *out_lp = at<float>(log_probs), *out_kept = at<float>(log_probs_kept);
  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check("logits", x));
  TEAMTR_TRY(check_temperature(dev, temperature, temp.per_row, rows, true));
  if (top_k < 0) return fail(TEAMTR_INVALID, "topK %lld is negative", (long long)top_k);
  if (!(top_p > 0 && top_p <= 1)) return fail(TEAMTR_INVALID, "topP %g is not in (0, 1]", (double)top_p);
  if (!(min_p >= 0 && min_p <= 1)) return fail(TEAMTR_INVALID, "minP %g is not in [0, 1]", (double)min_p);
  if (step < 0) return fail(TEAMTR_INVALID, "step %d is negative", step);
  TEAMTR_TRY(check_index_type("tokens", token_type));
  TEAMTR_TRY(check_given("tokens", tokens, rows));
  if (!dev.on_cpu())
    return cuda::sample(dev, {x, temp, top_k, top_p, min_p, seed, step, ids, at<void>(tokens), token_type, out_lp, out_kept});
  const auto sample = row_kernels().sample[dtype];
  parallel_for(rows, rows_at_a_time(vocab), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const double t = temp[r], t_log_probs = t > 0 ? t : 1;
      RowSample s;
      sample(x.row(r), vocab, {t, top_k, top_p, min_p, seed, step, ids ? ids[r] : r, out_kept != nullptr}, &s);
      if (token_type == TEAMTR_I32) at<int32_t>(tokens)[r] = (int32_t)s.token;
      else at<int64_t>(tokens)[r] = s.token;
      if (out_lp) out_lp[r] = (float)RowResult(s.stats, t_log_probs).log_prob(s.logit);
      if (out_kept) {
        s.stats.rest = s.token < 0 ? NAN : s.rest_kept;
        out_kept[r] = (float)RowResult(s.stats, t_log_probs).log_prob(s.logit);
      }
    }
  });
  return TEAMTR_OK;
}
