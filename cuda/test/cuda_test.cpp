/*
 * The vocab-sized CUDA kernels against sums in double, on device 0 of a CUDA build or on the host in lockstep.
 *   cuda_test           all cases
 *   cuda_test --small   a few short rows of each kernel, for compute-sanitizer
 *
 * Each case also checks that the bits are the same when a row is alone, in another place and differently aligned; in a second run;
 * and, on the host, when the threads of a block run from the last to the first.
 */
#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "checks.h"

/* ---- logits ---- */

struct Logits {
  int dtype;
  int64_t rows, vocab, stride;
  Mirrored<char> memory;
  Logits(int dtype, int64_t rows, int64_t vocab, int64_t padding, int skip)
      : dtype(dtype), rows(rows), vocab(vocab), stride(vocab + padding),
        memory(((rows - 1) * (vocab + padding) + vocab) * bytes_of(dtype), 0x7b, skip * bytes_of(dtype)) {}
  char* at(int64_t r, int64_t v) { return memory.host.data() + (r * stride + v) * bytes_of(dtype); }
  float get(int64_t r, int64_t v) {
    uint32_t bits = 0;
    std::memcpy(&bits, at(r, v), bytes_of(dtype));
    return value_of(dtype, bits);
  }
  void set(int64_t r, int64_t v, float f) {
    const uint32_t bits = bits_of(dtype, f);
    std::memcpy(at(r, v), &bits, bytes_of(dtype));
  }
  std::vector<double> row(int64_t r) {
    std::vector<double> x(vocab);
    for (int64_t v = 0; v < vocab; v++) x[v] = get(r, v);
    return x;
  }
  std::vector<char> bytes(int64_t r) { return std::vector<char>(at(r, 0), at(r, 0) + vocab * bytes_of(dtype)); }
};

enum Kind { NORMAL, PEAKED, CERTAIN, FLAT, HALF_MASKED, ONE_LEFT, ALL_MASKED, HAS_NAN, HAS_INFINITY, KINDS };

static void fill(Logits& x, int64_t r, int kind, std::mt19937& random) {
  std::normal_distribution<float> normal(0, 3);
  for (int64_t v = 0; v < x.vocab; v++) {
    float f = kind == FLAT ? 1.5f : normal(random);
    if (kind == PEAKED && v % 97 == 3) f += 15;
    if (kind == CERTAIN && v == x.vocab / 2) f += 45;
    if (kind == HALF_MASKED && (v / 5) % 2 == 0) f = -INFINITY;
    if (kind == ONE_LEFT && v != x.vocab / 3) f = -INFINITY;
    if (kind == ALL_MASKED) f = -INFINITY;
    if (kind == HAS_NAN && v == x.vocab - 1) f = NAN;
    if (kind == HAS_INFINITY && v == x.vocab / 2) f = INFINITY;
    x.set(r, v, f);
  }
}

/* ---- the same in double ---- */

struct Exact {
  std::vector<double> log_p;
  double lse, entropy;
  Exact(const std::vector<double>& x, double t) : log_p(x.size()) {
    double max = -INFINITY, sum = 0;
    for (double v : x) max = v != v || max != max ? NAN : std::max(max, v);
    for (double v : x) sum += v == -INFINITY ? 0 : std::exp((v - max) / t);
    const bool proper = std::isfinite(max);
    double rest = -1; /* of the sum without one maximum, added smallest error first */
    for (double v : x) rest += v == max ? 1 : 0;
    for (double v : x) rest += v == max || v == -INFINITY ? 0 : std::exp((v - max) / t);
    lse = proper ? max / t + std::log1p(rest) : NAN;
    entropy = proper ? 0 : NAN;
    for (size_t v = 0; v < x.size(); v++) {
      log_p[v] = proper ? (x[v] - max) / t - std::log1p(rest) : NAN;
      if (log_p[v] > -INFINITY) entropy -= std::exp(log_p[v]) * log_p[v];
    }
  }
};

static double exact_kl(const Exact& p, const Exact& q) {
  double kl = 0;
  for (size_t v = 0; v < p.log_p.size(); v++) {
    if (p.log_p[v] == -INFINITY) continue;
    const double P = std::exp(p.log_p[v]), r = p.log_p[v] - q.log_p[v];
    kl += q.log_p[v] == -INFINITY ? INFINITY : std::fabs(r) < 1 ? P * (r + std::expm1(-r)) : P * r + std::exp(q.log_p[v]) - P;
  }
  return p.lse != p.lse || q.lse != q.lse ? NAN : kl;
}

static void near(double got, double want, double tolerance, const std::string& what) {
  const bool good = want != want ? got != got : std::isinf(want) ? got == want : std::fabs(got - want) <= tolerance;
  if (good) return expect(true, "");
  char numbers[100];
  std::snprintf(numbers, sizeof numbers, ": %.9g, expected %.9g within %.2g", got, want, tolerance);
  expect(false, what + numbers);
}

/* ---- the kernels ---- */

static double worst_log_prob = 0, worst_entropy = 0, worst_kl = 0, worst_gradient = 0, worst_kl_gradient = 0;

static void note(double* worst, double got, double want, double scale) {
  if (std::isfinite(want)) *worst = std::max(*worst, std::fabs(got - want) / scale);
}

/* Rounding of a gradient's own format. */
static double unit(int dtype) { return dtype == TEAMTR_F32 ? 6e-8 : dtype == TEAMTR_BF16 ? 4e-3 : 5e-4; }

struct Forward {
  Mirrored<float> log_probs, lse, entropy;
  explicit Forward(int64_t rows) : log_probs(rows, 7), lse(rows, 7), entropy(rows, 7) {}
};

static void run_forward(Logits& x, Mirrored<int64_t>& targets, float t, Forward& out) {
  expect_status(teamtr_log_probs(0, 0, x.memory.on_device(), x.dtype, x.rows, x.vocab, x.stride, std::max<int64_t>(x.rows, 1), 0,
                                 targets.on_device(), TEAMTR_I64, t, 0, out.log_probs.on_device(), out.lse.on_device(),
                                 out.entropy.on_device()));
  out.log_probs.download();
  out.lse.download();
  out.entropy.download();
}

static bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * 4) == 0);
}

static void again(const char* what, const std::vector<float>& first, const std::vector<float>& second) {
  expect(same_bits(first, second), std::string(what) + ": other bits in another run, place or order");
}

static void log_probs_case(int dtype, int64_t vocab, int skip, int64_t padding, float t, std::mt19937& random) {
  const std::string name = "log-probs dtype " + std::to_string(dtype) + " vocab " + std::to_string(vocab) + " skip " +
                           std::to_string(skip) + " T " + std::to_string(t);
  const int64_t rows = KINDS + 2;
  Logits x(dtype, rows, vocab, padding, skip);
  Mirrored<int64_t> targets(rows);
  for (int64_t r = 0; r < rows; r++) {
    fill(x, r, (int)(r % KINDS), random);
    targets.host[r] = r % KINDS == CERTAIN ? vocab / 2 : r % KINDS == ONE_LEFT ? vocab / 3 : (int64_t)(random() % vocab);
  }
  targets.host[KINDS] = TEAMTR_IGNORE;
  targets.host[KINDS + 1] = vocab; /* out of range */
  x.memory.upload();
  targets.upload();
  Forward out(rows);
  run_forward(x, targets, t, out);

  Mirrored<float> g(rows), h(rows);
  for (int64_t r = 0; r < rows; r++) {
    g.host[r] = r % 4 == 0 ? 0.0f : 0.3f * (float)r - 1;
    h.host[r] = r % 3 == 0 ? 0.0f : 0.1f * (float)r;
  }
  g.upload();
  h.upload();
  Logits d(dtype, rows, vocab, padding, skip);
  const auto backward = [&](Logits& from, Logits& to) {
    expect_status(teamtr_log_probs_backward(
        0, 0, from.memory.on_device(), dtype, rows, vocab, from.stride, rows, 0, targets.on_device(), TEAMTR_I64, 0, vocab, t, 0,
        out.log_probs.on_device(), out.lse.on_device(), out.entropy.on_device(), g.on_device(), h.on_device(),
        to.memory.on_device(), to.stride, rows, 0));
    to.memory.download();
  };
  backward(x, d);

  for (int64_t r = 0; r < rows; r++) {
    const int64_t target = targets.host[r];
    const std::string where = name + " row " + std::to_string(r);
    if (r >= KINDS) {
      const double want = r == KINDS ? 0 : NAN;
      near(out.log_probs.host[r], want, 0, where + " log-prob");
      near(out.lse.host[r], want, 0, where + " lse");
      near(out.entropy.host[r], want, 0, where + " entropy");
      for (int64_t v = 0; v < vocab; v++) near(d.get(r, v), want, 0, where + " gradient");
      continue;
    }
    const Exact exact(x.row(r), t);
    const double lp = exact.log_p[target];
    /* near 0 it is a sum of small terms, whose exponents in bits are rounded to 6e-8 of themselves */
    near(out.log_probs.host[r], lp, 3e-7 * std::fabs(lp) + 1e-5 * std::min(0.03, std::fabs(lp)) + 1e-30, where + " log-prob");
    near(out.lse.host[r], exact.lse, 2e-7 * (1 + std::fabs(exact.lse)), where + " lse");
    near(out.entropy.host[r], exact.entropy, 5e-7 * (1 + exact.entropy), where + " entropy");
    note(&worst_log_prob, out.log_probs.host[r], lp, 1 + std::fabs(lp));
    note(&worst_entropy, out.entropy.host[r], exact.entropy, 1 + exact.entropy);
    if (exact.lse != exact.lse) {
      if (g.host[r] != 0 || h.host[r] != 0)
        for (int64_t v = 0; v < vocab; v++) near(d.get(r, v), NAN, 0, where + " gradient");
      continue;
    }
    if (t < 0.1) continue; /* an lse of 1,000 and more, as f32, leaves no gradient to speak of */
    double most = 0;
    std::vector<double> want(vocab);
    for (int64_t v = 0; v < vocab; v++) {
      const double p = std::exp(exact.log_p[v]);
      want[v] = (g.host[r] * ((v == target) - p) - (p > 0 ? h.host[r] * p * (exact.log_p[v] + exact.entropy) : 0)) / t;
      if (v == target && g.host[r] != 0 && h.host[r] == 0) want[v] = -g.host[r] * std::expm1(exact.log_p[v]) / t;
      most = std::max(most, std::fabs(want[v]));
    }
    for (int64_t v = 0; v < vocab; v++) {
      /* 5e-7: what log-prob, lse and entropy lose as f32 on their way from the forward pass */
      near(d.get(r, v), want[v], 1e-5 * most + unit(dtype) * std::fabs(want[v]) + 5e-7, where + " gradient " + std::to_string(v));
      if (dtype == TEAMTR_F32 && most > 1e-3) note(&worst_gradient, d.get(r, v), want[v], most);
    }
  }

  /* the same bits: backwards and without clusters, in place and in other clusters, elsewhere */
  Forward second(rows);
  turn_backwards(true);
  largest_cluster(1);
  run_forward(x, targets, t, second);
  turn_backwards(false);
  again(name.c_str(), out.log_probs.host, second.log_probs.host);
  again(name.c_str(), out.lse.host, second.lse.host);
  again(name.c_str(), out.entropy.host, second.entropy.host);
  Logits copy(dtype, rows, vocab, padding, skip);
  copy.memory.host = x.memory.host;
  copy.memory.upload();
  largest_cluster(vocab % 2 ? 1 : 4);
  backward(copy, copy);
  largest_cluster(8);
  for (int64_t r = 0; r < rows; r++) expect(copy.bytes(r) == d.bytes(r), name + ": gradient in place");
  Logits one(dtype, 1, vocab, 0, (skip + 3) % 8);
  Mirrored<int64_t> target(1, targets.host[1]);
  for (int64_t v = 0; v < vocab; v++) std::memcpy(one.at(0, v), x.at(1, v), bytes_of(dtype));
  one.memory.upload();
  Forward alone(1);
  run_forward(one, target, t, alone);
  again(name.c_str(), {out.log_probs.host[1], out.lse.host[1], out.entropy.host[1]},
        {alone.log_probs.host[0], alone.lse.host[0], alone.entropy.host[0]});

  /* in two shards */
  if (vocab > 1) {
    const int64_t cut = vocab / 3 + 1;
    Mirrored<float> parts(2 * rows * 4);
    for (int64_t shard = 0; shard < 2; shard++) {
      const int64_t from = shard ? cut : 0, n = shard ? vocab - cut : cut;
      if (n == 0) return;
      expect_status(teamtr_log_probs_parts(0, 0, x.memory.on_device() + from * bytes_of(dtype), dtype, rows, n, x.stride, rows, 0,
                                           targets.on_device(), TEAMTR_I64, from, vocab, t, 0,
                                           parts.on_device() + shard * rows * 16));
    }
    Forward merged(rows);
    expect_status(teamtr_log_probs_merge(0, 0, parts.on_device(), 2, rows, targets.on_device(), TEAMTR_I64, t, 0,
                                         merged.log_probs.on_device(), merged.lse.on_device(), merged.entropy.on_device()));
    merged.log_probs.download();
    merged.lse.download();
    merged.entropy.download();
    for (int64_t r = 0; r < rows; r++) {
      near(merged.log_probs.host[r], out.log_probs.host[r], 1e-6 * (1 + std::fabs(out.log_probs.host[r])), name + " merged");
      near(merged.lse.host[r], out.lse.host[r], 1e-6 * (1 + std::fabs(out.lse.host[r])), name + " merged lse");
      near(merged.entropy.host[r], out.entropy.host[r], 2e-6 * (1 + std::fabs(out.entropy.host[r])), name + " merged entropy");
    }
  }
}

struct KlOut {
  Mirrored<float> kl, lp, lq, hp, hq;
  explicit KlOut(int64_t rows) : kl(rows, 7), lp(rows, 7), lq(rows, 7), hp(rows, 7), hq(rows, 7) {}
};

/* In every seventieth token the policies differ `outlying` times as much as in the others. */
static void kl_case(int dtype, int64_t vocab, int skip, float t, float apart, float shift, std::mt19937& random, float outlying = 1) {
  const std::string name = "KL dtype " + std::to_string(dtype) + " vocab " + std::to_string(vocab) + " skip " +
                           std::to_string(skip) + " T " + std::to_string(t) + " apart " + std::to_string(apart);
  const int64_t rows = KINDS + 4;
  Logits p(dtype, rows, vocab, skip, skip), q(dtype, rows, vocab, 0, skip);
  std::normal_distribution<float> normal(0, 1);
  Mirrored<int64_t> targets(rows);
  for (int64_t r = 0; r < rows; r++) {
    fill(p, r, (int)(r % KINDS), random);
    for (int64_t v = 0; v < vocab; v++) q.set(r, v, p.get(r, v) + shift + apart * normal(random) * (v % 70 == 3 ? outlying : 1));
    targets.host[r] = (int64_t)(random() % vocab);
  }
  for (int64_t v = 0; v < vocab; v++) q.set(KINDS, v, p.get(KINDS, v)); /* equal rows */
  q.set(KINDS + 1, vocab / 2, -INFINITY);                               /* masked by one only */
  targets.host[KINDS + 2] = TEAMTR_IGNORE;
  targets.host[KINDS + 3] = -1; /* out of range */
  p.memory.upload();
  q.memory.upload();
  targets.upload();
  const auto forward = [&](KlOut& out, bool all) {
    expect_status(teamtr_kl(0, 0, p.memory.on_device(), dtype, rows, vocab, p.stride, rows, 0, q.memory.on_device(), q.stride, rows,
                            0, targets.on_device(), TEAMTR_I64, t, 0, out.kl.on_device(), all ? out.lp.on_device() : 0,
                            all ? out.lq.on_device() : 0, all ? out.hp.on_device() : 0, all ? out.hq.on_device() : 0));
    for (auto* m : {&out.kl, &out.lp, &out.lq, &out.hp, &out.hq}) m->download();
  };
  KlOut out(rows), second(rows);
  forward(out, true);
  turn_backwards(true);
  forward(second, false);
  turn_backwards(false);
  again(name.c_str(), out.kl.host, second.kl.host);

  Mirrored<float> grad(rows);
  for (int64_t r = 0; r < rows; r++) grad.host[r] = r % 5 == 4 ? 0.0f : 0.2f * (float)r - 1.1f;
  grad.upload();
  /* the statistics, beside the same results; the gradients without and with them */
  Mirrored<float> lse_p(rows, 7), lse_q(rows, 7), log_ratio(rows, 7), kl_again(rows, 7);
  expect_status(teamtr_kl_with_statistics(0, 0, p.memory.on_device(), dtype, rows, vocab, p.stride, rows, 0, q.memory.on_device(),
                                          q.stride, rows, 0, targets.on_device(), TEAMTR_I64, t, 0, kl_again.on_device(), 0, 0, 0,
                                          0, lse_p.on_device(), lse_q.on_device(), log_ratio.on_device()));
  for (auto* m : {&lse_p, &lse_q, &log_ratio, &kl_again}) m->download();
  again(name.c_str(), out.kl.host, kl_again.host);
  Logits d[4] = {Logits(dtype, rows, vocab, skip, skip), Logits(dtype, rows, vocab, skip, skip),
                 Logits(dtype, rows, vocab, skip, skip), Logits(dtype, rows, vocab, skip, skip)};
  for (int wrt_q = 0; wrt_q < 2; wrt_q++) {
    expect_status(teamtr_kl_backward(0, 0, p.memory.on_device(), dtype, rows, vocab, p.stride, rows, 0, q.memory.on_device(), q.stride,
                                     rows, 0, targets.on_device(), TEAMTR_I64, t, 0, grad.on_device(), wrt_q,
                                     d[wrt_q].memory.on_device(), d[wrt_q].stride, rows, 0));
    expect_status(teamtr_kl_backward_from_statistics(
        0, 0, p.memory.on_device(), dtype, rows, vocab, p.stride, rows, 0, q.memory.on_device(), q.stride, rows, 0,
        targets.on_device(), TEAMTR_I64, t, 0, wrt_q ? 0 : kl_again.on_device(), lse_p.on_device(), lse_q.on_device(),
        log_ratio.on_device(), grad.on_device(), wrt_q, d[2 + wrt_q].memory.on_device(), d[2 + wrt_q].stride, rows, 0));
    d[wrt_q].memory.download();
    d[2 + wrt_q].memory.download();
  }

  for (int64_t r = 0; r < rows; r++) {
    const std::string where = name + " row " + std::to_string(r);
    if (r >= KINDS + 2) {
      const double want = r == KINDS + 2 ? 0 : NAN;
      for (auto* m : {&out.kl, &out.lp, &out.lq, &out.hp, &out.hq}) near(m->host[r], want, 0, where);
      for (Logits& g : d)
        for (int64_t v = 0; v < vocab; v++) near(g.get(r, v), r == KINDS + 2 ? 0 : NAN, 0, where + " gradient");
      continue;
    }
    const Exact ep(p.row(r), t), eq(q.row(r), t);
    const double kl = exact_kl(ep, eq), lp = ep.log_p[targets.host[r]], lq = eq.log_p[targets.host[r]];
    near(out.kl.host[r], kl, 1e-5 * kl + 1e-12, where + " kl");
    /* twice LogProbs': vectors with near and far elements add these one by one, and of equal logits all roundings go the same way */
    near(lse_p.host[r], ep.lse, 4e-7 * (1 + std::fabs(ep.lse)), where + " lse of p");
    near(lse_q.host[r], eq.lse, 4e-7 * (1 + std::fabs(eq.lse)), where + " lse of q");
    near(log_ratio.host[r], ep.lse - eq.lse, 2e-6 * (1 + std::fabs(ep.lse - eq.lse)), where + " log-ratio");
    if (kl > 1e-9) note(&worst_kl, out.kl.host[r], kl, kl);
    expect(!(out.kl.host[r] < 0), where + ": negative");
    near(out.lp.host[r], lp, 5e-7 * (1 + std::fabs(lp)), where + " log-prob of p");
    near(out.lq.host[r], lq, 5e-7 * (1 + std::fabs(lq)), where + " log-prob of q");
    /* log Z - sum e y / Z, whose two parts are as large as the logits are far from where the sweep's reference was set: some ten
     * nats, each to a few 1e-7 after hundreds of f32 additions. LogProbs' entropy is held closer, above. */
    near(out.hp.host[r], ep.entropy, 4e-6 * (1 + ep.entropy), where + " entropy of p");
    near(out.hq.host[r], eq.entropy, 4e-6 * (1 + eq.entropy), where + " entropy of q");
    if (!std::isfinite(kl) || grad.host[r] == 0 || t < 0.1) continue;
    for (int wrt_q = 0; wrt_q < 2; wrt_q++) {
      double most = 0;
      std::vector<double> want(vocab);
      for (int64_t v = 0; v < vocab; v++) {
        const double P = std::exp(ep.log_p[v]), ratio = ep.log_p[v] - eq.log_p[v];
        want[v] = P == 0 ? (wrt_q ? grad.host[r] * std::exp(eq.log_p[v]) / t : 0)
                         : wrt_q ? grad.host[r] * P * std::expm1(-ratio) / t
                                 : grad.host[r] * P * (ratio - kl) / t;
        most = std::max(most, std::fabs(want[v]));
      }
      for (int64_t v = 0; v < vocab; v++) {
        near(d[wrt_q].get(r, v), want[v], 2e-5 * most + unit(dtype) * std::fabs(want[v]) + 1e-7,
             where + " gradient " + std::to_string(v));
        /* statistics are f32: an exponent may lack half a unit of their last place */
        const double lost = 6e-8 * (std::fabs(ep.lse) + std::fabs(ep.lse - eq.lse) + std::fabs(kl));
        near(d[2 + wrt_q].get(r, v), want[v],
             (2e-5 + lost) * most + unit(dtype) * std::fabs(want[v]) + std::fabs(grad.host[r] / t) * lost + 1e-7,
             where + " gradient from statistics " + std::to_string(v));
        if (dtype == TEAMTR_F32 && most > 1e-6) note(&worst_kl_gradient, d[wrt_q].get(r, v), want[v], most);
      }
    }
  }
}

/* Compares with the CPU kernels, which their own tests compare with doubles. */
static void policy_loss_case(int dtype, int64_t vocab, int skip, bool old_logits, int kl_term, double entropy_coef,
                             std::mt19937& random) {
  const std::string name = "policy loss dtype " + std::to_string(dtype) + " vocab " + std::to_string(vocab) + " skip " +
                           std::to_string(skip) + (old_logits ? " old" : "") + " kl " + std::to_string(kl_term);
  const int64_t rows = 12, messages = 4;
  Logits x(dtype, rows, vocab, skip, skip), old(dtype, rows, vocab, 0, skip);
  std::normal_distribution<float> normal(0, 1);
  Mirrored<int32_t> targets(rows);
  Mirrored<int64_t> cu(std::vector<int64_t>{0, 5, 5, 9, rows});
  Mirrored<uint8_t> mask(rows, 1);
  Mirrored<float> log_probs_old(rows), advantages(std::vector<float>{1.5f, 2, -0.5f, 0.7f});
  for (int64_t r = 0; r < rows; r++) {
    fill(x, r, (int)(r % HALF_MASKED), random);
    const float apart = r == 7 ? 2.0f : 0.01f;
    for (int64_t v = 0; v < vocab; v++) old.set(r, v, x.get(r, v) + apart * normal(random));
    targets.host[r] = (int32_t)(random() % vocab);
    log_probs_old.host[r] = (float)Exact(old.row(r), 0.9).log_p[targets.host[r]];
  }
  targets.host[6] = TEAMTR_IGNORE;
  mask.host[2] = 0;
  for (Logits* l : {&x, &old}) l->memory.upload();
  targets.upload();
  mask.upload();
  log_probs_old.upload();

  struct Out {
    Mirrored<float> lp, lse, entropy, kl, work;
    Mirrored<double> stats;
    explicit Out(int64_t rows) : lp(rows, 7), lse(rows, 7), entropy(rows, 7), kl(rows, 7), work(5 * rows, 7), stats(TEAMTR_STATS, 7) {}
  };
  Out gpu(rows), cpu(rows);
  Logits d(dtype, rows, vocab, skip, skip), d_cpu(dtype, rows, vocab, skip, skip);
  const auto run = [&](int device, Out& out, Logits& gradient) {
    const auto at = [&](const auto& m) { return device == TEAMTR_CPU ? m.on_host() : m.on_device(); };
    expect_status(teamtr_policy_loss(
        device, 0, at(x.memory), dtype, rows, vocab, x.stride, rows, 0, old_logits ? at(old.memory) : 0, old.stride, rows, 0,
        at(targets), TEAMTR_I32, 0.9f, 0, at(log_probs_old), at(advantages), 0, at(cu), TEAMTR_I64, messages, at(mask), 0,
        TEAMTR_RATIO_MESSAGE, 0.2, 0.3, INFINITY, kl_term, kl_term == TEAMTR_KL_NONE ? 0 : 0.3, TEAMTR_TOKEN_MEAN, entropy_coef,
        TEAMTR_SEQ_MEAN_TOKEN_SUM, 0, 0, 0, at(out.lp), at(out.lse), at(out.entropy), old_logits ? at(out.kl) : 0, at(out.work),
        at(gradient.memory), gradient.stride, rows, 0, at(out.stats)));
  };
  run(TEAMTR_CPU, cpu, d_cpu);
  run(0, gpu, d);
  gpu.lp.download();
  gpu.kl.download();
  gpu.stats.download();
  d.memory.download();
  for (int i = 0; i < TEAMTR_STATS; i++) {
    const double want = cpu.stats.host[i];
    near(gpu.stats.host[i], want, 1e-5 * (1 + std::fabs(want)), name + " statistic " + std::to_string(i));
  }
  for (int64_t r = 0; r < rows; r++) {
    near(gpu.lp.host[r], cpu.lp.host[r], 1e-6 * (1 + std::fabs(cpu.lp.host[r])), name + " log-prob");
    if (old_logits) near(gpu.kl.host[r], cpu.kl.host[r], 2e-5 * cpu.kl.host[r] + 1e-12, name + " kl");
    double most = 0;
    for (int64_t v = 0; v < vocab; v++) most = std::max(most, (double)std::fabs(d_cpu.get(r, v)));
    for (int64_t v = 0; v < vocab; v++)
      near(d.get(r, v), d_cpu.get(r, v), 2e-5 * most + 2 * unit(dtype) * std::fabs(d_cpu.get(r, v)) + 1e-7, name + " gradient");
  }
}

/* Where there are few long rows, clusters share them; where there are many, not. The bits must be the same. */
static void many_rows(int dtype, int64_t vocab, int64_t rows, std::mt19937& random) {
  const std::string name = "rows in clusters, dtype " + std::to_string(dtype);
  Logits x(dtype, 2, vocab, 0, 0);
  for (int64_t r = 0; r < 2; r++) fill(x, r, r ? PEAKED : NORMAL, random);
  x.memory.upload();
  Mirrored<int64_t> targets(rows);
  for (int64_t r = 0; r < rows; r++) targets.host[r] = (r * 7919) % vocab;
  targets.upload();
  Forward all(rows), few(2);
  /* row r is row r % 2: batches of two rows, one over the other */
  expect_status(teamtr_log_probs(0, 0, x.memory.on_device(), dtype, rows, vocab, x.stride, 2, 0, targets.on_device(), TEAMTR_I64, 0.7f,
                                 0, all.log_probs.on_device(), all.lse.on_device(), all.entropy.on_device()));
  for (auto* m : {&all.log_probs, &all.lse, &all.entropy}) m->download();
  run_forward(x, targets, 0.7f, few);
  for (int64_t r = 0; r < rows; r++) {
    expect(all.lse.host[r] == few.lse.host[r % 2], name + ": lse");
    expect(all.entropy.host[r] == few.entropy.host[r % 2], name + ": entropy");
  }
  for (int64_t r = 0; r < 2; r++) expect(all.log_probs.host[r] == few.log_probs.host[r], name + ": log-prob");
}

/* The same for the KL: with a policy in which one token has nearly all of the probability, one in which none has, and one near both, for
 * which one sweep is enough: how a row is divided that is computed again depends on the device. */
static void many_pairs(int dtype, int64_t vocab, int64_t rows, std::mt19937& random) {
  const std::string name = "pairs in clusters, dtype " + std::to_string(dtype);
  Logits p(dtype, 2, vocab, 0, 0), q(dtype, 2, vocab, 0, 0);
  std::normal_distribution<float> normal(0, 1);
  for (int64_t r = 0; r < 2; r++) {
    fill(p, r, r ? PEAKED : NORMAL, random);
    for (int64_t v = 0; v < vocab; v++) q.set(r, v, p.get(r, v) + 0.02f * normal(random));
  }
  p.memory.upload();
  q.memory.upload();
  Mirrored<int64_t> targets(rows);
  for (int64_t r = 0; r < rows; r++) targets.host[r] = (r % 2 * 7919) % vocab;
  targets.upload();
  const auto forward = [&](KlOut& out, int64_t n) {
    expect_status(teamtr_kl(0, 0, p.memory.on_device(), dtype, n, vocab, p.stride, 2, 0, q.memory.on_device(), q.stride, 2, 0,
                            targets.on_device(), TEAMTR_I64, 0.7f, 0, out.kl.on_device(), out.lp.on_device(), out.lq.on_device(),
                            out.hp.on_device(), out.hq.on_device()));
    for (auto* m : {&out.kl, &out.lp, &out.lq, &out.hp, &out.hq}) m->download();
  };
  KlOut all(rows), few(2), fewer(2), cpu(2);
  largest_cluster(1);
  forward(all, rows);
  largest_cluster(4); /* too few for the six slices */
  forward(fewer, 2);
  largest_cluster(8);
  forward(few, 2);
  expect_status(teamtr_kl(-1, 0, p.memory.on_host(), dtype, 2, vocab, p.stride, 2, 0, q.memory.on_host(), q.stride, 2, 0,
                          targets.on_host(), TEAMTR_I64, 0.7f, 0, cpu.kl.on_host(), cpu.lp.on_host(), cpu.lq.on_host(),
                          cpu.hp.on_host(), cpu.hq.on_host()));
  for (int64_t r = 0; r < rows; r++) {
    expect(all.kl.host[r] == few.kl.host[r % 2], name + ": kl");
    expect(all.lp.host[r] == few.lp.host[r % 2] && all.lq.host[r] == few.lq.host[r % 2], name + ": log-probs");
    expect(all.hp.host[r] == few.hp.host[r % 2] && all.hq.host[r] == few.hq.host[r % 2], name + ": entropies");
  }
  again(name.c_str(), fewer.kl.host, few.kl.host);
  for (int64_t r = 0; r < 2; r++) near(few.kl.host[r], cpu.kl.host[r], 2e-5 * cpu.kl.host[r] + 1e-12, name + ": kl of the CPU");
}

int main(int argc, char** argv) {
  const bool small = argc > 1 && std::string(argv[1]) == "--small";
  if (teamtr_cuda_count() == 0) {
    std::printf("no device: %s\n", teamtr_last_error());
    return 2;
  }
  std::printf("device 0: %s\n", teamtr_cuda_device(0));
  std::mt19937 random(20260522);
  const std::vector<int64_t> vocabs = small ? std::vector<int64_t>{7, 9000} : std::vector<int64_t>{1, 7, 64, 1000, 4099, 32000, 50257, 151936};
  for (int dtype : {TEAMTR_F32, TEAMTR_BF16, TEAMTR_F16})
    for (int64_t vocab : vocabs)
      for (int skip : {0, 1}) {
        if (vocab > 40000 && skip && dtype == TEAMTR_F16) continue;
        for (float t : {1.0f, 0.7f}) log_probs_case(dtype, vocab, skip, skip, t, random);
        kl_case(dtype, vocab, skip, 1.0f, 0.01f, 0, random);
        kl_case(dtype, vocab, skip, 0.8f, 2.0f, 0, random);
        policy_loss_case(dtype, vocab, skip, false, TEAMTR_K3, 0, random);
        policy_loss_case(dtype, vocab, skip, true, TEAMTR_KL_EXACT, 0.01, random);
        policy_loss_case(dtype, vocab, skip, true, TEAMTR_KL_NONE, 0.01, random);
        kl_case(dtype, vocab, skip, 1.0f, 0.001f, 4.0f, random);
        kl_case(dtype, vocab, skip, 1.0f, 0.25f, 0, random); /* a twentieth of the elements is far, so most vectors have both kinds */
        kl_case(dtype, vocab, skip, 0.9f, 0.01f, 0, random, 300);
        /* exponents of some 1,500 bits, for which no integer reference serves; and of 1e8, where p is 0 or 1 */
        if (vocab < 10000) {
          log_probs_case(dtype, vocab, skip, skip, 0.02f, random);
          log_probs_case(dtype, vocab, skip, skip, 1e-7f, random);
          kl_case(dtype, vocab, skip, 0.02f, 0.01f, 0, random);
        }
        if (small) continue;
        kl_case(dtype, vocab, skip, 1.0f, dtype == TEAMTR_F32 ? 1e-5f : 0.1f, 0, random);
      }
  for (int dtype : {TEAMTR_F32, TEAMTR_BF16}) many_rows(dtype, dtype == TEAMTR_F32 ? 33000 : 70000, 67, random);
#if defined(TEAMTR_TEST_ON_GPU)
  const int64_t pairs = 4 * 256 + 1; /* more than whole rows fill any multiprocessors with */
#else
  const int64_t pairs = 5;
#endif
  for (int dtype : {TEAMTR_F32, TEAMTR_BF16}) many_pairs(dtype, dtype == TEAMTR_F32 ? 65539 : 131075, pairs, random);
  if (small) kl_case(TEAMTR_BF16, 60000, 0, 1.0f, 2.0f, 0, random); /* long enough for a cluster of blocks */
  std::printf("worst of f32 or all: log-prob %.1e, entropy %.1e, gradient %.1e of its row's largest; KL %.1e relative, its gradient %.1e\n",
              worst_log_prob, worst_entropy, worst_gradient, worst_kl, worst_kl_gradient);
  return report_checks();
}
