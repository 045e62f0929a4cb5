/*
 * The C ABI of the per-token kernels, and the fused policy loss that runs them between two sweeps over the logits.
 *
 * Policy loss, passes over memory: one read of the logits (and of the old ones when given) for log-probs, entropy
 * and KL; the surrogate on per-token vectors; one more read of the logits and one write for the gradient. The ratio of a
 * message needs the log-probs of all its tokens before any gradient is known, so there must be two sweeps. Masked rows,
 * and in the second sweep rows whose gradient is 0, are not read.
 */
#include <limits>

#include "abi.h"

namespace teamtr {

static int32_t check_range(const char* name, double x, double low, double high) {
  if (x >= low && x <= high) return TEAMTR_OK;
  return fail(TEAMTR_INVALID, "%s: %g is not in %g..%g", name, x, low, high);
}

static int32_t check_choice(const char* name, int32_t x, int32_t low, int32_t high) {
  if (x >= low && x <= high) return TEAMTR_OK;
  return fail(TEAMTR_INVALID, "%s: %d is none of the choices %d..%d", name, x, low, high);
}

static int32_t check_surrogate(const Device& dev, const Surrogate& a) {
  const double inf = INFINITY, most = std::numeric_limits<double>::max();
  if (a.tokens < 0) return fail(TEAMTR_INVALID, "tokens: %lld is negative", (long long)a.tokens);
  TEAMTR_TRY(check_cu_seqlens(dev, a.cu_seqlens, a.messages, a.tokens));
  if (a.tokens > 0 && (!a.log_probs_new || !a.log_probs_old)) return fail(TEAMTR_INVALID, "logProbsNew, logProbsOld: not given");
  if ((a.advantage_per_token ? a.tokens : a.messages) > 0 && !a.advantages) return fail(TEAMTR_INVALID, "advantages: not given");
  if (!a.stats) return fail(TEAMTR_INVALID, "stats: not given");
  TEAMTR_TRY(check_choice("ratioLevel", a.ratio_level, TEAMTR_RATIO_MESSAGE, TEAMTR_RATIO_MESSAGE_MEAN));
  TEAMTR_TRY(check_choice("klTerm", a.kl_term, TEAMTR_KL_NONE, TEAMTR_KL_EXACT));
  TEAMTR_TRY(check_choice("klAggregation", a.kl_aggregation, TEAMTR_TOKEN_MEAN, TEAMTR_FIXED_LENGTH));
  TEAMTR_TRY(check_choice("aggregation", a.aggregation, TEAMTR_TOKEN_MEAN, TEAMTR_FIXED_LENGTH));
  if (a.eps_low != inf) TEAMTR_TRY(check_range("epsLow", a.eps_low, 0, 1));
  TEAMTR_TRY(check_range("epsHigh", a.eps_high, 0, inf));
  if (!(a.dual_clip > 1)) return fail(TEAMTR_INVALID, "dualClip: %g is not greater than 1", a.dual_clip);
  TEAMTR_TRY(check_range("beta", a.beta, 0, most));
  TEAMTR_TRY(check_range("entropyCoef", a.entropy_coef, -most, most));
  if (a.aggregation == TEAMTR_FIXED_LENGTH || a.kl_aggregation == TEAMTR_FIXED_LENGTH)
    if (!(a.fixed_length > 0 && a.fixed_length < inf))
      return fail(TEAMTR_INVALID, "fixedLength: %g is not finite and positive", a.fixed_length);
  if (a.total_tokens < 0 || a.total_messages < 0)
    return fail(TEAMTR_INVALID, "totalTokens %lld, totalMessages %lld: negative", (long long)a.total_tokens, (long long)a.total_messages);
  if (a.kl_term == TEAMTR_KL_EXACT && !a.kl && a.tokens > 0) return fail(TEAMTR_INVALID, "kl: the exact KL term needs it");
  if (a.entropy_coef != 0 && !a.entropy && a.tokens > 0) return fail(TEAMTR_INVALID, "entropy: entropyCoef %g needs it", a.entropy_coef);
  return TEAMTR_OK;
}

static bool left_out(const cuda::PolicyLoss& a, int64_t r) { return a.targets[r] == TEAMTR_IGNORE || (a.mask && !a.mask[r]); }

/* The gradient with respect to the logits, from those with respect to the results of the first sweep. */
static void second_sweep(const cuda::PolicyLoss& a) {
  const int64_t vocab = a.x.vocab;
  const auto gradient = row_kernels().gradient[a.x.dtype];
  const auto kl_gradient = row_kernels().kl_gradient[a.x.dtype];
  parallel_for(a.x.rows, rows_at_a_time(vocab), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const double g = a.d_log_probs ? a.d_log_probs[r] : 0, gh = a.d_entropy ? a.d_entropy[r] : 0, gk = a.d_kl ? a.d_kl[r] : 0;
      if (left_out(a, r) || (g == 0 && gh == 0 && gk == 0)) {
        zero_row(a.d, r);
        continue;
      }
      const double T = a.temperature[r];
      const int64_t target = a.targets[r];
      const char* row = a.x.row(r);
      const float x_t = a.x.value(row, target);
      RowGradient rg = row_gradient(T, target, x_t, a.log_probs[r], a.lse[r], a.entropy ? a.entropy[r] : 0, g, gh);
      if (gk == 0) {
        gradient(row, vocab, rg, a.d.row(r));
        continue;
      }
      const double difference = kl_target_difference(T, a.old.value(r, target), x_t, a.log_probs[r], a.lse_old[r], a.log_ratio[r]);
      rg.at_target = (float)(rg.at_target + gk * difference / T);
      const KlGradient kg{softmax_from_lse(a.lse_old[r], T), rg.softmax, T, a.log_ratio[r], 0, (float)gk, true, &rg};
      kl_gradient(a.old.row(r), row, vocab, kg, a.d.row(r));
    }
  });
}

}  // namespace teamtr

using namespace teamtr;

extern "C" {

int32_t teamtr_sampled_kl(
    int32_t device, teamtr_address stream, int32_t estimator, teamtr_address log_probs_old,
    teamtr_address log_probs_new, int64_t tokens, teamtr_address cu_seqlens, int32_t cu_type, int64_t messages,
    teamtr_address per_token, teamtr_address per_message) {
  const Device dev{device, stream};
  const Ids cu{at<void>(cu_seqlens), cu_type};
  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check_choice("estimator", estimator, TEAMTR_K1, TEAMTR_ABS));
  if (tokens < 0) return fail(TEAMTR_INVALID, "tokens: %lld is negative", (long long)tokens);
  TEAMTR_TRY(check_given("logProbsOld", log_probs_old, tokens));
  TEAMTR_TRY(check_given("logProbsNew", log_probs_new, tokens));
  if (per_message || cu_seqlens) TEAMTR_TRY(check_cu_seqlens(dev, cu, messages, tokens));
  if (!dev.on_cpu())
    return cuda::sampled_kl(dev, estimator, at<float>(log_probs_old), at<float>(log_probs_new), tokens, cu, messages,
                            at<float>(per_token), at<float>(per_message));
  sampled_kl(estimator, at<float>(log_probs_old), at<float>(log_probs_new), tokens, cu, messages, at<float>(per_token),
             at<float>(per_message));
  return TEAMTR_OK;
}

int32_t teamtr_group_advantages(
    int32_t device, teamtr_address stream, teamtr_address returns, int64_t count, int64_t group_size, double eps_norm,
    double clip, int32_t normalise, teamtr_address advantages, teamtr_address centred) {
  const Device dev{device, stream};
  TEAMTR_TRY(check(dev));
  if (count < 0) return fail(TEAMTR_INVALID, "returns: %lld of them", (long long)count);
  if (group_size < 1 || count % group_size)
    return fail(TEAMTR_INVALID, "groupSize: %lld does not divide the %lld returns", (long long)group_size, (long long)count);
  TEAMTR_TRY(check_given("returns", returns, count));
  TEAMTR_TRY(check_given("advantages", advantages, count));
  TEAMTR_TRY(check_range("epsNorm", eps_norm, 0, std::numeric_limits<double>::max()));
  if (!(clip > 0)) return fail(TEAMTR_INVALID, "clip: %g is not positive", clip);
  if (!dev.on_cpu())
    return cuda::group_advantages(dev, at<float>(returns), count, group_size, eps_norm, clip, normalise != 0,
                                  at<float>(advantages), at<float>(centred));
  group_advantages(at<float>(returns), count, group_size, eps_norm, clip, normalise != 0, at<float>(advantages),
                   at<float>(centred));
  return TEAMTR_OK;
}

int32_t teamtr_surrogate(
    int32_t device, teamtr_address stream, teamtr_address log_probs_new, teamtr_address log_probs_old, int64_t tokens,
    teamtr_address advantages, int32_t advantage_per_token, teamtr_address cu_seqlens, int32_t cu_type,
    int64_t messages, teamtr_address mask, teamtr_address kl, teamtr_address entropy, teamtr_address centred_returns,
    int32_t ratio_level, double eps_low, double eps_high, double dual_clip, int32_t kl_term, double beta,
    int32_t kl_aggregation, double entropy_coef, int32_t aggregation, double fixed_length, int64_t total_tokens,
    int64_t total_messages, teamtr_address d_log_probs, teamtr_address d_kl, teamtr_address d_entropy,
    teamtr_address stats) {
  const Device dev{device, stream};
  const Surrogate a{at<float>(log_probs_new), at<float>(log_probs_old), tokens,
                    at<float>(advantages), advantage_per_token != 0, {at<void>(cu_seqlens), cu_type}, messages,
                    at<uint8_t>(mask), {}, at<float>(kl), at<float>(entropy), at<float>(centred_returns),
                    ratio_level, eps_low, eps_high, dual_clip, kl_term, beta, kl_aggregation, entropy_coef,
                    aggregation, fixed_length, total_tokens, total_messages,
                    at<float>(d_log_probs), at<float>(d_kl), at<float>(d_entropy), at<double>(stats)};
  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check_surrogate(dev, a));
  if (!dev.on_cpu()) return cuda::surrogate(dev, a);
  surrogate(a);
  return TEAMTR_OK;
}

int32_t teamtr_policy_loss(
    int32_t device, teamtr_address stream, teamtr_address logits, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t row_stride, int64_t rows_per_batch, int64_t batch_stride, teamtr_address old_logits,
    int64_t old_row_stride, int64_t old_rows_per_batch, int64_t old_batch_stride, teamtr_address targets,
    int32_t target_type, float temperature, teamtr_address temperatures, teamtr_address log_probs_old,
    teamtr_address advantages, int32_t advantage_per_token, teamtr_address cu_seqlens, int32_t cu_type,
    int64_t messages, teamtr_address mask, teamtr_address centred_returns, int32_t ratio_level, double eps_low,
    double eps_high, double dual_clip, int32_t kl_term, double beta, int32_t kl_aggregation, double entropy_coef,
    int32_t aggregation, double fixed_length, int64_t total_tokens, int64_t total_messages,
    teamtr_address log_probs_new, teamtr_address lse, teamtr_address entropy, teamtr_address kl, teamtr_address work,
    teamtr_address d_logits, int64_t d_row_stride, int64_t d_rows_per_batch, int64_t d_batch_stride,
    teamtr_address stats) {
  const Device dev{device, stream};
  const Matrix x(logits, dtype, rows, vocab, row_stride, rows_per_batch, batch_stride);
  const Matrix d(d_logits, dtype, rows, vocab, d_row_stride, d_rows_per_batch, d_batch_stride);
  const Matrix old(old_logits, dtype, rows, vocab, old_row_stride, old_rows_per_batch, old_batch_stride);
  const bool has_old = old_logits != 0;
  const Ids t{at<void>(targets), target_type};
  const Temperature temp{temperature, at<float>(temperatures)};
  const uint8_t* counts = at<uint8_t>(mask);
  float *lp = at<float>(log_probs_new), *out_lse = at<float>(lse), *h = at<float>(entropy), *out_kl = at<float>(kl);
  float *lse_old = at<float>(work), *log_ratio = lse_old + rows, *d_lp = log_ratio + rows, *d_kl = d_lp + rows,
        *d_h = d_kl + rows;

  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check("logits", x));
  TEAMTR_TRY(check("dLogits", d));
  if (has_old) {
    TEAMTR_TRY(check("oldLogits", old));
    TEAMTR_TRY(check_given("kl", kl, rows));
  }
  TEAMTR_TRY(check_given("targets", targets, rows));
  TEAMTR_TRY(check_targets(dev, t, rows, vocab));
  TEAMTR_TRY(check_temperature(dev, temperature, temp.per_row, rows, false));
  TEAMTR_TRY(check_given("logProbsNew", log_probs_new, rows));
  TEAMTR_TRY(check_given("lse", lse, rows));
  TEAMTR_TRY(check_given("work", work, rows));
  const Surrogate a{lp, at<float>(log_probs_old), rows,
                    at<float>(advantages), advantage_per_token != 0, {at<void>(cu_seqlens), cu_type}, messages,
                    counts, t, has_old ? out_kl : nullptr, h, at<float>(centred_returns),
                    ratio_level, eps_low, eps_high, dual_clip, kl_term, beta, kl_aggregation, entropy_coef,
                    aggregation, fixed_length, total_tokens, total_messages, d_lp, d_kl, d_h, at<double>(stats)};
  TEAMTR_TRY(check_surrogate(dev, a));
  const cuda::PolicyLoss sweeps{x, old, d, t, temp, counts, lp, out_lse, h, out_kl, lse_old, log_ratio, d_lp,
                                kl_term == TEAMTR_KL_EXACT && beta != 0 ? d_kl : nullptr, entropy_coef != 0 ? d_h : nullptr};
  if (!dev.on_cpu()) {
    TEAMTR_TRY(cuda::policy_loss_forward(dev, sweeps));
    TEAMTR_TRY(cuda::surrogate(dev, a));
    return cuda::policy_loss_backward(dev, sweeps);
  }
  const auto row_stats = row_kernels().stats[dtype];
  const auto row_kl = row_kernels().kl[dtype];
  parallel_for(rows, rows_at_a_time(vocab), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      if (left_out(sweeps, r)) {
        lp[r] = out_lse[r] = 0;
        if (h) h[r] = 0;
        if (out_kl) out_kl[r] = 0;
        continue;
      }
      const double T = temp[r];
      const char* row = x.row(r);
      const float x_t = x.value(row, t[r]);
      if (!has_old) {
        const RowResult f(row_stats(row, vocab, T, h != nullptr), T);
        lp[r] = (float)f.log_prob(x_t);
        out_lse[r] = (float)f.lse;
        if (h) h[r] = (float)f.entropy;
        continue;
      }
      KlRow k;
      row_kl(old.row(r), row, vocab, T, h != nullptr, &k);
      KlResults{out_kl, nullptr, lp, nullptr, h, lse_old, out_lse, log_ratio}.write(r, k, T, old.value(r, t[r]), x_t);
    }
  });
  surrogate(a);
  second_sweep(sweeps);
  return TEAMTR_OK;
}

int32_t teamtr_policy_loss_backward(
    int32_t device, teamtr_address stream, teamtr_address logits, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t row_stride, int64_t rows_per_batch, int64_t batch_stride, teamtr_address old_logits,
    int64_t old_row_stride, int64_t old_rows_per_batch, int64_t old_batch_stride, teamtr_address targets,
    int32_t target_type, float temperature, teamtr_address temperatures, teamtr_address log_probs, teamtr_address entropy,
    teamtr_address lse_old, teamtr_address lse_new, teamtr_address log_ratio, teamtr_address grad_log_probs,
    teamtr_address grad_entropy, teamtr_address grad_kl, teamtr_address d_logits, int64_t d_row_stride,
    int64_t d_rows_per_batch, int64_t d_batch_stride) {
  const Device dev{device, stream};
  const cuda::PolicyLoss a{{logits, dtype, rows, vocab, row_stride, rows_per_batch, batch_stride},
                           {old_logits, dtype, rows, vocab, old_row_stride, old_rows_per_batch, old_batch_stride},
                           {d_logits, dtype, rows, vocab, d_row_stride, d_rows_per_batch, d_batch_stride},
                           {at<void>(targets), target_type}, {temperature, at<float>(temperatures)}, nullptr,
                           at<float>(log_probs), at<float>(lse_new), at<float>(entropy), nullptr, at<float>(lse_old),
                           at<float>(log_ratio), at<float>(grad_log_probs), at<float>(grad_kl), at<float>(grad_entropy)};
  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check("logits", a.x));
  TEAMTR_TRY(check("oldLogits", a.old));
  TEAMTR_TRY(check("dLogits", a.d));
  TEAMTR_TRY(check_given("targets", targets, rows));
  TEAMTR_TRY(check_targets(dev, a.targets, rows, vocab));
  TEAMTR_TRY(check_temperature(dev, temperature, a.temperature.per_row, rows, false));
  TEAMTR_TRY(check_given("logProbs", log_probs, rows));
  TEAMTR_TRY(check_given("lseOld", lse_old, rows));
  TEAMTR_TRY(check_given("lseNew", lse_new, rows));
  TEAMTR_TRY(check_given("logRatio", log_ratio, rows));
  TEAMTR_TRY(check_given("gradKl", grad_kl, rows));
  if (grad_entropy) TEAMTR_TRY(check_given("entropy", entropy, rows));
  if (!dev.on_cpu()) return cuda::policy_loss_backward(dev, a);
  second_sweep(a);
  return TEAMTR_OK;
}

}  // extern "C"
