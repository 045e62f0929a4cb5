/*
 * The functions of the C ABI for log-probs, KL and vocab-parallel statistics: checks, the choice of a CPU level, and the loops
 * over rows. The others are in policy_loss.cpp (surrogate and policy loss), sampling.cpp and decoding.cpp.
 */
#include "abi.h"

#include <atomic>
#include <cstring>
#include <initializer_list>

namespace teamtr {

/* ---- errors ---- */

char* error_words() {
  static thread_local char words[kErrorSize];
  return words;
}

/* ---- the CPU level ---- */

static int32_t best_level() {
#if defined(__x86_64__)
  __builtin_cpu_init(); /* reads CPUID, and by XGETBV which registers the operating system saves */
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    return TEAMTR_AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    return TEAMTR_AVX2;
#endif
  return TEAMTR_PORTABLE;
}

static std::atomic<int32_t>& level() {
  static std::atomic<int32_t> chosen{best_level()};
  return chosen;
}

const RowKernels& row_kernels() {
#if defined(__x86_64__)
  switch (level().load(std::memory_order_relaxed)) {
    case TEAMTR_AVX512: return kRowKernelsAvx512;
    case TEAMTR_AVX2: return kRowKernelsAvx2;
  }
#endif
  return kRowKernelsPortable;
}

/* ---- checks ---- */

int32_t check_given(const char* name, teamtr_address a, int64_t count) {
  if (!a && count > 0) return fail(TEAMTR_INVALID, "%s: not given", name);
  return TEAMTR_OK;
}

int32_t check(const Device& dev) {
  if (dev.on_cpu()) return TEAMTR_OK;
  const int32_t count = cuda::count();
  if (count == 0) return TEAMTR_DEVICE; /* the error message is cuda::count()'s */
  if (dev.device >= 0 && dev.device < count) return TEAMTR_OK;
  return fail(TEAMTR_INVALID, "device %d: expected -1 (the CPU) to %d", dev.device, count - 1);
}

int32_t check(const char* name, const Matrix& m) {
  if (m.dtype < TEAMTR_F32 || m.dtype > TEAMTR_F16)
    return fail(TEAMTR_INVALID, "%s: dtype %d is none of f32 (0), bf16 (1), f16 (2)", name, m.dtype);
  if (m.rows < 0) return fail(TEAMTR_INVALID, "%s: rows %lld is negative", name, (long long)m.rows);
  if (m.vocab < 1 || m.vocab > INT32_MAX)
    return fail(TEAMTR_INVALID, "%s: vocab %lld is not in 1..2147483647", name, (long long)m.vocab);
  if (m.row_stride < m.vocab)
    return fail(TEAMTR_INVALID, "%s: row stride %lld is less than vocab %lld", name, (long long)m.row_stride, (long long)m.vocab);
  if (m.rows_per_batch < 1) return fail(TEAMTR_INVALID, "%s: rows per batch %lld is not positive", name, (long long)m.rows_per_batch);
  if (m.batch_stride < 0) return fail(TEAMTR_INVALID, "%s: batch stride %lld is negative", name, (long long)m.batch_stride);
  if (reinterpret_cast<uintptr_t>(m.data) % bytes_of(m.dtype))
    return fail(TEAMTR_INVALID, "%s: address is not a multiple of its element's %d bytes", name, (int)bytes_of(m.dtype));
  return check_given(name, reinterpret_cast<uintptr_t>(m.data), m.rows);
}

int32_t check_index_type(const char* name, int32_t type) {
  if (type != TEAMTR_I32 && type != TEAMTR_I64)
    return fail(TEAMTR_INVALID, "%s: type %d is none of int32 (0), int64 (1)", name, type);
  return TEAMTR_OK;
}

int32_t check_targets(const Device& dev, Ids targets, int64_t rows, int64_t vocab) {
  if (!targets) return TEAMTR_OK;
  TEAMTR_TRY(check_index_type("targets", targets.type));
  if (!dev.on_cpu()) return TEAMTR_OK;
  for (int64_t r = 0; r < rows; r++) {
    const int64_t t = targets[r];
    if ((t < 0 || t >= vocab) && t != TEAMTR_IGNORE)
      return fail(TEAMTR_INVALID, "targets[%lld] is %lld: expected 0..%lld, or %d for a row to ignore", (long long)r,
                  (long long)t, (long long)(vocab - 1), TEAMTR_IGNORE);
  }
  return TEAMTR_OK;
}

int32_t check_temperature(const Device& dev, float scalar, const float* per_row, int64_t rows, bool zero_allowed) {
  const auto good = [&](float t) { return good_temperature(t) || (zero_allowed && t == 0); };
  const char* range = zero_allowed ? "0..1e30" : "0..1e30, 0 excluded";
  if (!per_row) return good(scalar) ? TEAMTR_OK : fail(TEAMTR_INVALID, "temperature %g is not in %s", (double)scalar, range);
  if (!dev.on_cpu()) return TEAMTR_OK;
  for (int64_t r = 0; r < rows; r++)
    if (!good(per_row[r]))
      return fail(TEAMTR_INVALID, "temperature[%lld] is %g: not in %s", (long long)r, (double)per_row[r], range);
  return TEAMTR_OK;
}

int32_t check_cu_seqlens(const Device& dev, Ids cu, int64_t messages, int64_t tokens) {
  if (messages < 0) return fail(TEAMTR_INVALID, "messages: %lld is negative", (long long)messages);
  TEAMTR_TRY(check_index_type("cuSeqlens", cu.type));
  if (!cu) return fail(TEAMTR_INVALID, "cuSeqlens: not given");
  if (!dev.on_cpu()) return TEAMTR_OK;
  if (cu[0] != 0) return fail(TEAMTR_INVALID, "cuSeqlens[0] is %lld: expected 0", (long long)cu[0]);
  for (int64_t m = 0; m < messages; m++)
    if (cu[m + 1] < cu[m])
      return fail(TEAMTR_INVALID, "cuSeqlens[%lld] is %lld, less than the %lld before it", (long long)(m + 1),
                  (long long)cu[m + 1], (long long)cu[m]);
  if (cu[messages] != tokens)
    return fail(TEAMTR_INVALID, "cuSeqlens[%lld] is %lld: expected the number of tokens, %lld", (long long)messages,
                (long long)cu[messages], (long long)tokens);
  return TEAMTR_OK;
}

static int32_t check_columns(int64_t start, int64_t vocab, int64_t global_vocab) {
  if (start >= 0 && global_vocab <= INT32_MAX && start <= global_vocab - vocab) return TEAMTR_OK;
  return fail(TEAMTR_INVALID, "vocabStart %lld: columns %lld..%lld do not lie in a vocabulary of %lld", (long long)start,
              (long long)start, (long long)(start + vocab - 1), (long long)global_vocab);
}

}  // namespace teamtr

using namespace teamtr;

extern "C" {

const char* teamtr_last_error(void) { return error_words(); }
int32_t teamtr_abi(void) { return 3; }
int32_t teamtr_cpu_best(void) { return best_level(); }
int32_t teamtr_cpu_level(void) { return level().load(); }

int32_t teamtr_cpu_force(int32_t wanted) {
  if (wanted < TEAMTR_PORTABLE || wanted > best_level())
    return fail(TEAMTR_INVALID, "CPU level %d: this machine has 0 (portable) to %d", wanted, best_level());
  level().store(wanted);
  return TEAMTR_OK;
}

int32_t teamtr_threads(void) { return pool_threads(); }

int32_t teamtr_threads_set(int32_t threads) {
  if (threads < 1 || threads > 1024) return fail(TEAMTR_INVALID, "threads: %d is not in 1..1024", threads);
  pool_resize(threads);
  return TEAMTR_OK;
}

int32_t teamtr_cuda_count(void) { return cuda::count(); }

const char* teamtr_cuda_device(int32_t device) {
  static thread_local char words[kErrorSize];
  return check(Device{device, 0}) || device == TEAMTR_CPU || cuda::describe(device, words) ? nullptr : words;
}

int32_t teamtr_cuda_check(int32_t device, teamtr_address address) {
  TEAMTR_TRY(check(Device{device, 0}));
  return device == TEAMTR_CPU ? TEAMTR_OK : cuda::check_address(device, address);
}

int32_t teamtr_cuda_synchronize(int32_t device, teamtr_address stream) {
  const Device dev{device, stream};
  TEAMTR_TRY(check(dev));
  return dev.on_cpu() ? TEAMTR_OK : cuda::synchronize(dev);
}

int32_t teamtr_log_probs(
    int32_t device, teamtr_address stream, teamtr_address logits, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t row_stride, int64_t rows_per_batch, int64_t batch_stride, teamtr_address targets, int32_t target_type,
    float temperature, teamtr_address temperatures, teamtr_address log_probs, teamtr_address lse,
    teamtr_address entropy) {
  const Device dev{device, stream};
  const Matrix x(logits, dtype, rows, vocab, row_stride, rows_per_batch, batch_stride);
  const Ids t{at<void>(targets), target_type};
  const Temperature temp{temperature, at<float>(temperatures)};
  float *out_lp = at<float>(log_probs), *out_lse = at<float>(lse), *out_h = at<float>(entropy);
  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check("logits", x));
  TEAMTR_TRY(check_targets(dev, t, rows, vocab));
  TEAMTR_TRY(check_temperature(dev, temperature, temp.per_row, rows, false));
  if (out_lp && !t) return fail(TEAMTR_INVALID, "targets: not given, but log-probs are asked for");
  if (!dev.on_cpu()) return cuda::log_probs(dev, x, t, temp, out_lp, out_lse, out_h);
  const auto stats = row_kernels().stats[dtype];
  parallel_for(rows, rows_at_a_time(vocab), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const int64_t target = t ? t[r] : 0;
      if (target == TEAMTR_IGNORE) {
        if (out_lp) out_lp[r] = 0;
        if (out_lse) out_lse[r] = 0;
        if (out_h) out_h[r] = 0;
        continue;
      }
      const char* row = x.row(r);
      const RowResult f(stats(row, vocab, temp[r], out_h != nullptr), temp[r]);
      if (out_lp) out_lp[r] = (float)f.log_prob(x.value(row, target));
      if (out_lse) out_lse[r] = (float)f.lse;
      if (out_h) out_h[r] = (float)f.entropy;
    }
  });
  return TEAMTR_OK;
}

int32_t teamtr_log_probs_backward(
    int32_t device, teamtr_address stream, teamtr_address logits, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t row_stride, int64_t rows_per_batch, int64_t batch_stride, teamtr_address targets, int32_t target_type,
    int64_t vocab_start, int64_t global_vocab, float temperature, teamtr_address temperatures,
    teamtr_address log_probs, teamtr_address lse, teamtr_address entropy, teamtr_address grad_log_probs,
    teamtr_address grad_entropy, teamtr_address d_logits, int64_t d_row_stride, int64_t d_rows_per_batch,
    int64_t d_batch_stride) {
  const Device dev{device, stream};
  const Matrix x(logits, dtype, rows, vocab, row_stride, rows_per_batch, batch_stride);
  const Matrix d(d_logits, dtype, rows, vocab, d_row_stride, d_rows_per_batch, d_batch_stride);
  const Ids t{at<void>(targets), target_type};
  const Temperature temp{temperature, at<float>(temperatures)};
  const float *lp = at<float>(log_probs), *saved_lse = at<float>(lse), *saved_h = at<float>(entropy);
  const float *gl = at<float>(grad_log_probs), *gh = at<float>(grad_entropy);
  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check("logits", x));
  TEAMTR_TRY(check("dLogits", d));
  TEAMTR_TRY(check_columns(vocab_start, vocab, global_vocab));
  TEAMTR_TRY(check_targets(dev, t, rows, global_vocab));
  TEAMTR_TRY(check_temperature(dev, temperature, temp.per_row, rows, false));
  TEAMTR_TRY(check_given("lse", lse, rows));
  if (!gl && !gh) return fail(TEAMTR_INVALID, "gradLogProbs, gradEntropy: neither is given");
  if (gl && (!t || !lp)) return fail(TEAMTR_INVALID, "gradLogProbs: needs targets and logProbs");
  if (gh && !saved_h) return fail(TEAMTR_INVALID, "gradEntropy: needs entropy");
  if (!dev.on_cpu())
    return cuda::log_probs_backward(dev, x, t, vocab_start, global_vocab, temp, lp, saved_lse, saved_h, gl, gh, d);
  const auto gradient = row_kernels().gradient[dtype];
  parallel_for(rows, rows_at_a_time(vocab), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const double g = gl ? gl[r] : 0, h = gh ? gh[r] : 0;
      if ((t && t[r] == TEAMTR_IGNORE) || (g == 0 && h == 0)) {
        zero_row(d, r);
        continue;
      }
      const int64_t local = gl ? t[r] - vocab_start : -1;
      const int64_t target = local >= 0 && local < vocab ? local : -1;
      const char* row = x.row(r);
      const RowGradient rg = row_gradient(temp[r], target, target >= 0 ? x.value(row, target) : 0, gl ? lp[r] : 0,
                                          saved_lse[r], saved_h ? saved_h[r] : 0, g, h);
      gradient(row, vocab, rg, d.row(r));
    }
  });
  return TEAMTR_OK;
}

int32_t teamtr_kl_with_statistics(
    int32_t device, teamtr_address stream, teamtr_address p, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t p_row_stride, int64_t p_rows_per_batch, int64_t p_batch_stride, teamtr_address q, int64_t q_row_stride,
    int64_t q_rows_per_batch, int64_t q_batch_stride, teamtr_address targets, int32_t target_type, float temperature,
    teamtr_address temperatures, teamtr_address kl, teamtr_address log_probs_p, teamtr_address log_probs_q,
    teamtr_address entropy_p, teamtr_address entropy_q, teamtr_address lse_p, teamtr_address lse_q,
    teamtr_address log_ratio) {
  const Device dev{device, stream};
  const Matrix P(p, dtype, rows, vocab, p_row_stride, p_rows_per_batch, p_batch_stride);
  const Matrix Q(q, dtype, rows, vocab, q_row_stride, q_rows_per_batch, q_batch_stride);
  const Ids t{at<void>(targets), target_type};
  const Temperature temp{temperature, at<float>(temperatures)};
  const KlResults out{at<float>(kl), at<float>(log_probs_p), at<float>(log_probs_q), at<float>(entropy_p),
                      at<float>(entropy_q), at<float>(lse_p), at<float>(lse_q), at<float>(log_ratio)};
  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check("p", P));
  TEAMTR_TRY(check("q", Q));
  TEAMTR_TRY(check_given("kl", kl, rows));
  TEAMTR_TRY(check_targets(dev, t, rows, vocab));
  TEAMTR_TRY(check_temperature(dev, temperature, temp.per_row, rows, false));
  if ((out.log_probs_p || out.log_probs_q) && !t) return fail(TEAMTR_INVALID, "targets: not given, but log-probs are asked for");
  if (!dev.on_cpu()) return cuda::kl(dev, P, Q, t, temp, out);
  const auto row_kl = row_kernels().kl[dtype];
  parallel_for(rows, rows_at_a_time(vocab), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const int64_t target = t ? t[r] : 0;
      if (target == TEAMTR_IGNORE) {
        out.fill(r, 0);
        continue;
      }
      KlRow k{};
      row_kl(P.row(r), Q.row(r), vocab, temp[r], out.entropy_q != nullptr, &k);
      out.write(r, k, temp[r], P.value(r, target), Q.value(r, target));
    }
  });
  return TEAMTR_OK;
}

int32_t teamtr_kl(
    int32_t device, teamtr_address stream, teamtr_address p, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t p_row_stride, int64_t p_rows_per_batch, int64_t p_batch_stride, teamtr_address q, int64_t q_row_stride,
    int64_t q_rows_per_batch, int64_t q_batch_stride, teamtr_address targets, int32_t target_type, float temperature,
    teamtr_address temperatures, teamtr_address kl, teamtr_address log_probs_p, teamtr_address log_probs_q,
    teamtr_address entropy_p, teamtr_address entropy_q) {
  return teamtr_kl_with_statistics(device, stream, p, dtype, rows, vocab, p_row_stride, p_rows_per_batch, p_batch_stride, q,
                                   q_row_stride, q_rows_per_batch, q_batch_stride, targets, target_type, temperature,
                                   temperatures, kl, log_probs_p, log_probs_q, entropy_p, entropy_q, 0, 0, 0);
}

int32_t teamtr_kl_backward_from_statistics(
    int32_t device, teamtr_address stream, teamtr_address p, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t p_row_stride, int64_t p_rows_per_batch, int64_t p_batch_stride, teamtr_address q, int64_t q_row_stride,
    int64_t q_rows_per_batch, int64_t q_batch_stride, teamtr_address targets, int32_t target_type, float temperature,
    teamtr_address temperatures, teamtr_address kl, teamtr_address lse_p, teamtr_address lse_q, teamtr_address log_ratio,
    teamtr_address grad_kl, int32_t wrt_q, teamtr_address d, int64_t d_row_stride,
    int64_t d_rows_per_batch, int64_t d_batch_stride) {
  const Device dev{device, stream};
  const Matrix P(p, dtype, rows, vocab, p_row_stride, p_rows_per_batch, p_batch_stride);
  const Matrix Q(q, dtype, rows, vocab, q_row_stride, q_rows_per_batch, q_batch_stride);
  const Matrix D(d, dtype, rows, vocab, d_row_stride, d_rows_per_batch, d_batch_stride);
  const Ids t{at<void>(targets), target_type};
  const Temperature temp{temperature, at<float>(temperatures)};
  const float* g = at<float>(grad_kl);
  const KlSaved saved{at<float>(kl), at<float>(lse_p), at<float>(lse_q), at<float>(log_ratio)};
  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check("p", P));
  TEAMTR_TRY(check("q", Q));
  TEAMTR_TRY(check("d", D));
  TEAMTR_TRY(check_given("gradKl", grad_kl, rows));
  if (saved.lse_p) {
    TEAMTR_TRY(check_given("lseQ", lse_q, rows));
    TEAMTR_TRY(check_given("logRatio", log_ratio, rows));
    if (!wrt_q) TEAMTR_TRY(check_given("kl", kl, rows));
  }
  TEAMTR_TRY(check_targets(dev, t, rows, vocab));
  TEAMTR_TRY(check_temperature(dev, temperature, temp.per_row, rows, false));
  if (!dev.on_cpu()) return cuda::kl_backward(dev, P, Q, t, temp, saved, g, wrt_q != 0, D);
  const auto row_kl = row_kernels().kl[dtype];
  const auto gradient = row_kernels().kl_gradient[dtype];
  parallel_for(rows, rows_at_a_time(vocab), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      if ((t && t[r] == TEAMTR_IGNORE) || g[r] == 0) {
        zero_row(D, r);
        continue;
      }
      double lse_p, lse_q, log_ratio, kl = 0;
      if (saved.lse_p) {
        lse_p = saved.lse_p[r], lse_q = saved.lse_q[r], log_ratio = saved.log_ratio[r];
        if (!wrt_q) kl = saved.kl[r];
      } else {
        KlRow k;
        row_kl(P.row(r), Q.row(r), vocab, temp[r], false, &k);
        lse_p = RowResult(k.p, temp[r]).lse;
        lse_q = k.lse_q(temp[r]);
        log_ratio = k.log_ratio, kl = k.kl;
      }
      const KlGradient kg{softmax_from_lse(lse_p, temp[r]), softmax_from_lse(lse_q, temp[r]), temp[r], log_ratio,
                          kl, g[r], wrt_q != 0, nullptr};
      gradient(P.row(r), Q.row(r), vocab, kg, D.row(r));
    }
  });
  return TEAMTR_OK;
}

int32_t teamtr_kl_backward(
    int32_t device, teamtr_address stream, teamtr_address p, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t p_row_stride, int64_t p_rows_per_batch, int64_t p_batch_stride, teamtr_address q, int64_t q_row_stride,
    int64_t q_rows_per_batch, int64_t q_batch_stride, teamtr_address targets, int32_t target_type, float temperature,
    teamtr_address temperatures, teamtr_address grad_kl, int32_t wrt_q, teamtr_address d, int64_t d_row_stride,
    int64_t d_rows_per_batch, int64_t d_batch_stride) {
  return teamtr_kl_backward_from_statistics(device, stream, p, dtype, rows, vocab, p_row_stride, p_rows_per_batch,
                                            p_batch_stride, q, q_row_stride, q_rows_per_batch, q_batch_stride, targets,
                                            target_type, temperature, temperatures, 0, 0, 0, 0, grad_kl, wrt_q, d, d_row_stride,
                                            d_rows_per_batch, d_batch_stride);
}

int32_t teamtr_log_probs_parts(
    int32_t device, teamtr_address stream, teamtr_address logits, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t row_stride, int64_t rows_per_batch, int64_t batch_stride, teamtr_address targets, int32_t target_type,
    int64_t vocab_start, int64_t global_vocab, float temperature, teamtr_address temperatures, teamtr_address parts) {
  const Device dev{device, stream};
  const Matrix x(logits, dtype, rows, vocab, row_stride, rows_per_batch, batch_stride);
  const Ids t{at<void>(targets), target_type};
  const Temperature temp{temperature, at<float>(temperatures)};
  float* out = at<float>(parts);
  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check("logits", x));
  TEAMTR_TRY(check_given("parts", parts, rows));
  TEAMTR_TRY(check_columns(vocab_start, vocab, global_vocab));
  TEAMTR_TRY(check_targets(dev, t, rows, global_vocab));
  TEAMTR_TRY(check_temperature(dev, temperature, temp.per_row, rows, false));
  if (!dev.on_cpu()) return cuda::log_probs_parts(dev, x, t, vocab_start, global_vocab, temp, out);
  const auto stats = row_kernels().stats[dtype];
  parallel_for(rows, rows_at_a_time(vocab), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      float* o = out + r * 4;
      if (t && t[r] == TEAMTR_IGNORE) {
        o[0] = o[1] = o[2] = o[3] = 0;
        continue;
      }
      const char* row = x.row(r);
      const RowStats s = stats(row, vocab, temp[r], true);
      const int64_t local = t ? t[r] - vocab_start : -1;
      o[0] = s.max;
      o[1] = (float)s.rest;
      o[2] = (float)s.weighted;
      o[3] = local >= 0 && local < vocab ? x.value(row, local) : -INFINITY;
    }
  });
  return TEAMTR_OK;
}

int32_t teamtr_log_probs_merge(
    int32_t device, teamtr_address stream, teamtr_address parts, int64_t shards, int64_t rows, teamtr_address targets,
    int32_t target_type, float temperature, teamtr_address temperatures, teamtr_address log_probs, teamtr_address lse,
    teamtr_address entropy) {
  const Device dev{device, stream};
  const Ids t{at<void>(targets), target_type};
  const Temperature temp{temperature, at<float>(temperatures)};
  const float* in = at<float>(parts);
  float *out_lp = at<float>(log_probs), *out_lse = at<float>(lse), *out_h = at<float>(entropy);
  TEAMTR_TRY(check(dev));
  if (shards < 1) return fail(TEAMTR_INVALID, "shards: %lld is not positive", (long long)shards);
  if (rows < 0) return fail(TEAMTR_INVALID, "rows: %lld is negative", (long long)rows);
  TEAMTR_TRY(check_given("parts", parts, rows));
  TEAMTR_TRY(check_index_type("targets", target_type));
  TEAMTR_TRY(check_temperature(dev, temperature, temp.per_row, rows, false));
  if (!dev.on_cpu()) return cuda::log_probs_merge(dev, in, shards, rows, t, temp, out_lp, out_lse, out_h);
  for (int64_t r = 0; r < rows; r++) {
    if (t && t[r] == TEAMTR_IGNORE) {
      for (float* o : {out_lp, out_lse, out_h})
        if (o) o[r] = 0;
      continue;
    }
    float target;
    const RowResult f(merged_parts(in + r * 4, shards, rows * 4, temp[r], &target), temp[r]);
    if (out_lp) out_lp[r] = (float)f.log_prob(target);
    if (out_lse) out_lse[r] = (float)f.lse;
    if (out_h) out_h[r] = (float)f.entropy;
  }
  return TEAMTR_OK;
}

}  // extern "C"
