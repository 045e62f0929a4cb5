/*
 * Self-test of token_kernels.cpp against formulas written a second time, in doubles and without its structure:
 * every ratio level, clip, aggregation and KL term; gradients by finite differences of that second loss; hand
 * cases of Eq. 9 and Eq. 10; what must not be looked at; empty batches; micro-batches; special values.
 *
 *   g++ -std=c++17 -O2 -I native/include -I native/src native/src/token_kernels.cpp \
 *       native/test/token_kernels_test.cpp
 */
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "kernels.h"

using teamtr::Surrogate;
using Floats = std::vector<float>;
using Doubles = std::vector<double>;

static const double INF = std::numeric_limits<double>::infinity();
static const float GARBAGE = std::numeric_limits<float>::quiet_NaN();
static long checks = 0, failures = 0, kinks = 0, slopes = 0;

static void check(bool ok, const char* what, double got = 0, double expected = 0) {
  ++checks;
  if (!ok && ++failures <= 20) std::printf("FAILED %s: got %.17g, expected %.17g\n", what, got, expected);
}
static void close(double got, double expected, double tolerance, const char* what) {
  const bool same = got == expected || (std::isnan(got) && std::isnan(expected));
  check(same || std::fabs(got - expected) <= tolerance * (1 + std::fabs(expected)), what, got, expected);
}

/* A batch that owns its vectors; `s` is what the kernel sees of it. */
struct Batch {
  Floats fresh, old, advantages, kl, entropy, centred, d_log_probs, d_kl, d_entropy;
  std::vector<int32_t> cu32, targets;
  std::vector<int64_t> cu;
  std::vector<uint8_t> mask;
  Doubles stats = Doubles(TEAMTR_STATS, -7.0);
  Surrogate s{};
  bool narrow = false, masked = true;

  bool counts(size_t u) const { return !masked || (mask[u] && targets[u] != TEAMTR_IGNORE); }
  void call() {
    d_log_probs.assign(fresh.size(), GARBAGE);
    d_kl = d_entropy = d_log_probs;
    cu32.assign(cu.begin(), cu.end());
    s.log_probs_new = fresh.data(), s.log_probs_old = old.data(), s.tokens = static_cast<int64_t>(fresh.size());
    s.advantages = advantages.data(), s.messages = static_cast<int64_t>(cu.size()) - 1;
    s.cu_seqlens.data = narrow ? static_cast<const void*>(cu32.data()) : cu.data();
    s.cu_seqlens.type = narrow ? TEAMTR_I32 : TEAMTR_I64;
    s.mask = masked ? mask.data() : nullptr;
    s.targets.data = masked ? targets.data() : nullptr, s.targets.type = TEAMTR_I32;
    s.kl = kl.data(), s.entropy = entropy.data(), s.centred_returns = centred.data();
    s.d_log_probs = d_log_probs.data(), s.d_kl = d_kl.data(), s.d_entropy = d_entropy.data();
    s.stats = stats.data();
    teamtr::surrogate(s);
  }
};

static Batch random_batch(unsigned seed, std::vector<int> lengths, bool per_token, bool masked) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  Batch b;
  b.masked = masked, b.narrow = seed % 2, b.cu = {0};
  for (size_t m = 0; m < lengths.size(); ++m) {
    const float drift = m % 5 == 4 ? 9.0f * normal(rng) : 0.3f * normal(rng); /* some reach the clamp */
    b.centred.push_back(normal(rng));
    if (!per_token) b.advantages.push_back(normal(rng));
    for (int i = 0; i < lengths[m]; ++i) {
      const float old = -2 + normal(rng);
      b.old.push_back(old), b.fresh.push_back(old + drift + 0.2f * normal(rng));
      if (per_token) b.advantages.push_back(normal(rng));
      b.kl.push_back(std::fabs(normal(rng))), b.entropy.push_back(std::fabs(normal(rng)));
      b.mask.push_back(rng() % 4 != 0), b.targets.push_back(rng() % 6 ? static_cast<int>(rng() % 99) : TEAMTR_IGNORE);
      if (b.counts(b.mask.size() - 1)) continue;
      b.old.back() = b.fresh.back() = b.kl.back() = b.entropy.back() = GARBAGE;
      if (per_token) b.advantages.back() = GARBAGE;
    }
    bool live = false;
    for (auto u = static_cast<size_t>(b.cu.back()); u < b.old.size(); ++u) live |= b.counts(u);
    if (!live) b.centred.back() = GARBAGE;
    if (!live && !per_token) b.advantages.back() = GARBAGE;
    b.cu.push_back(static_cast<int64_t>(b.old.size()));
  }
  b.s.advantage_per_token = per_token;
  b.s.eps_low = b.s.eps_high = 0.2, b.s.dual_clip = INF, b.s.kl_term = TEAMTR_KL_NONE, b.s.fixed_length = 7;
  return b;
}

/* The second writing, in long doubles: finite differences of losses as large as exp(20) need the bits. */
using Real = long double;
using Reals = std::vector<Real>;

static Real aggregate(const Batch& b, const std::vector<Reals>& terms, int aggregation) {
  Real n_tokens = 0, n_messages = 0, sum = 0, sum_of_means = 0;
  for (const Reals& message : terms) {
    Real s = 0;
    for (Real t : message) s += t;
    n_tokens += static_cast<Real>(message.size()), n_messages += !message.empty();
    sum += s, sum_of_means += message.empty() ? 0 : s / static_cast<Real>(message.size());
  }
  if (b.s.total_tokens > 0) n_tokens = static_cast<Real>(b.s.total_tokens);
  if (b.s.total_messages > 0) n_messages = static_cast<Real>(b.s.total_messages);
  if (n_tokens == 0) return 0;
  switch (aggregation) {
    case TEAMTR_TOKEN_MEAN: return sum / n_tokens;
    case TEAMTR_SEQ_MEAN_TOKEN_SUM: return sum / n_messages;
    case TEAMTR_SEQ_MEAN_TOKEN_MEAN: return sum_of_means / n_messages;
    default: return sum / (n_messages * b.s.fixed_length);
  }
}
static Real average(const Reals& x) {
  Real s = 0;
  for (Real v : x) s += v;
  return x.empty() ? 0 : s / static_cast<Real>(x.size());
}
static Real limited(Real log_w) { return std::exp(std::max(-20.0L, std::min(20.0L, log_w))); }
static Real ppo(const Surrogate& s, Real w, Real A) {
  const Real low = 1 - s.eps_low, high = 1 + s.eps_high;
  return std::min(w * A, std::max(low, std::min(high, w)) * A);
}

static Reals reference(const Batch& b, const Reals& fresh, const Reals& kl_exact, const Reals& entropy) {
  const Surrogate& s = b.s;
  std::vector<Reals> objective, kl, ent;
  Reals ratios, squares, k1, k3, exact, products, wA, wA_clipped, wA0, A0_squares, out;
  Real largest = 0, low = 0, high = 0, dual = 0, pairs = 0, tokens = 0;
  for (size_t m = 0; m + 1 < b.cu.size(); ++m) {
    std::vector<size_t> live;
    for (auto u = static_cast<size_t>(b.cu[m]); u < static_cast<size_t>(b.cu[m + 1]); ++u)
      if (b.counts(u)) live.push_back(u);
    objective.emplace_back(), kl.emplace_back(), ent.emplace_back();
    if (live.empty()) continue;
    const Real n = static_cast<Real>(live.size());
    const Real A0 = b.centred[m];
    Real log_w = 0, sum_k3 = 0, sum_exact = 0, A_message = 0;
    for (size_t u : live) {
      const Real d = b.old[u] - fresh[u];
      log_w -= d, sum_k3 += std::exp(-d) - 1 + d, sum_exact += kl_exact[u];
      A_message += (s.advantage_per_token ? b.advantages[u] : b.advantages[m]) / n;
      Real t = 0;
      if (s.kl_term == TEAMTR_K1) t = d;
      if (s.kl_term == TEAMTR_K2) t = d * d / 2;
      if (s.kl_term == TEAMTR_K3) t = std::exp(-d) - 1 + d;
      if (s.kl_term == TEAMTR_ABS) t = std::fabs(d);
      if (s.kl_term == TEAMTR_KL_EXACT) t = kl_exact[u];
      kl.back().push_back(t), ent.back().push_back(entropy[u]), ++tokens;
    }
    const Real product = limited(log_w);
    for (size_t i = 0; i < live.size(); ++i) {
      const size_t u = live[i];
      const Real A = s.advantage_per_token ? b.advantages[u] : b.advantages[m];
      Real w = s.ratio_level == TEAMTR_RATIO_MESSAGE ? product : limited(log_w / n);
      if (s.ratio_level == TEAMTR_RATIO_TOKEN) w = limited(fresh[u] - b.old[u]);
      const Real o = ppo(s, w, A);
      objective.back().push_back(A < 0 && s.dual_clip < INF ? std::max(o, Real(s.dual_clip) * A) : o);
      if (i == 0 || s.ratio_level == TEAMTR_RATIO_TOKEN) ratios.push_back(w), squares.push_back(w * w);
      if (i > 0 && s.ratio_level != TEAMTR_RATIO_TOKEN && !s.advantage_per_token) continue;
      ++pairs, dual += A < 0 && w > s.dual_clip;
      low += A < 0 && w < 1 - s.eps_low, high += A > 0 && w > 1 + s.eps_high;
    }
    k1.push_back(-log_w), k3.push_back(sum_k3), exact.push_back(sum_exact), products.push_back(product);
    wA.push_back(product * A_message), wA_clipped.push_back(ppo(s, product, A_message));
    wA0.push_back(product * A0), A0_squares.push_back(A0 * A0);
    largest = std::max(largest, std::fabs(A_message));
  }
  const Real o = aggregate(b, objective, s.aggregation), k = aggregate(b, kl, s.kl_aggregation),
               e = aggregate(b, ent, s.aggregation);
  const bool any = tokens > 0;
  out = {-o + s.beta * k - s.entropy_coef * e, o, k, e, static_cast<Real>(k1.size()), tokens};
  for (Real share : {low, high, dual}) out.push_back(any ? share / pairs : 0);
  out.push_back(average(ratios));
  out.push_back(any ? *std::min_element(ratios.begin(), ratios.end()) : 0);
  out.push_back(any ? *std::max_element(ratios.begin(), ratios.end()) : 0);
  out.push_back(any ? average(ratios) * average(ratios) / average(squares) : 0);
  for (const Reals* x : {&k1, &k3, &exact}) out.push_back(average(*x));
  out.push_back(any ? *std::max_element(k1.begin(), k1.end()) : 0);
  out.push_back(std::fabs(average(wA) - average(wA_clipped)));
  out.push_back(any ? std::fabs(average(products) - 1) * largest : 0);
  out.push_back(any ? std::fabs(average(wA) - average(wA0) / std::sqrt(average(A0_squares))) : 0);
  return out;
}

/* d loss / d x[u] by central differences; false near a kink, where the two sides disagree. */
static bool difference(const Batch& b, Reals x[3], int which, size_t u, Real& slope) {
  const auto loss = [&] { return reference(b, x[0], x[1], x[2])[TEAMTR_STAT_LOSS]; };
  const Real at = x[which][u], h = 1e-5L, here = loss();
  x[which][u] = at + h;
  const Real right = loss() - here;
  x[which][u] = at - h;
  const Real left = here - loss();
  x[which][u] = at;
  slope = (right + left) / (2 * h);
  return std::fabs(right - left) / h < 1e-3 * (1 + std::fabs(slope));
}

static void compare(Batch& b, bool gradients) {
  b.call();
  Reals x[3] = {Reals(b.fresh.begin(), b.fresh.end()), Reals(b.kl.begin(), b.kl.end()),
                Reals(b.entropy.begin(), b.entropy.end())};
  const Reals expected = reference(b, x[0], x[1], x[2]);
  /* Where ratios near exp(20) cancel, the last digits go: in the kernel 1e-16 of them, in a difference 1e-14. */
  Real size = std::fabs(expected[TEAMTR_STAT_LOSS]);
  for (size_t i : {TEAMTR_STAT_RATIO_MAX, TEAMTR_STAT_ZETA_RATIO}) size = std::max(size, expected[i]);
  const double fine = 1e-12 + 1e-15 * double(size), coarse = 1e-6 + 5e-14 * double(size);
  for (size_t i = 0; i < TEAMTR_STATS; ++i) close(b.stats[i], double(expected[i]), fine, "statistic");
  const Floats* got[3] = {&b.d_log_probs, &b.d_kl, &b.d_entropy};
  for (int which = 0; which < 3; ++which) {
    for (size_t u = 0; u < b.fresh.size(); ++u) {
      Real slope = 0;
      const double d = (*got[which])[u];
      if (!b.counts(u)) check(d == 0, "gradient of a token that does not count", d);
      else if (!gradients) continue;
      else if (++slopes, difference(b, x, which, u, slope)) close(d, double(slope), coarse, "gradient");
      else ++kinks;
    }
  }
}

/* Two halves under the whole's counts add up to the whole, gradients to the bit. */
static void halves(const Batch& whole) {
  const int64_t cut = whole.cu[5];
  Floats gradient(whole.fresh.size());
  double sums[4] = {};
  for (bool second : {false, true}) {
    const int64_t u = second ? cut : 0, m = second ? 5 : 0;
    std::vector<int64_t> cu(whole.cu.begin() + m, second ? whole.cu.end() : whole.cu.begin() + 6);
    for (int64_t& c : cu) c -= u;
    Doubles stats(TEAMTR_STATS);
    Surrogate s = whole.s;
    s.log_probs_new += u, s.log_probs_old += u, s.kl += u, s.entropy += u, s.centred_returns += m;
    s.advantages += s.advantage_per_token ? u : m;
    if (whole.masked) s.mask += u, s.targets.data = whole.targets.data() + u;
    s.tokens = cu.back(), s.messages = static_cast<int64_t>(cu.size()) - 1;
    s.cu_seqlens.data = cu.data(), s.cu_seqlens.type = TEAMTR_I64;
    if (!s.total_tokens) s.total_tokens = static_cast<int64_t>(whole.stats[TEAMTR_STAT_TOKENS]);
    if (!s.total_messages) s.total_messages = static_cast<int64_t>(whole.stats[TEAMTR_STAT_MESSAGES]);
    s.d_log_probs = gradient.data() + u, s.d_kl = s.d_entropy = nullptr, s.stats = stats.data();
    teamtr::surrogate(s);
    for (size_t i = 0; i < 4; ++i) sums[i] += stats[i];
  }
  for (size_t i = 0; i < 4; ++i) close(sums[i], whole.stats[i], 1e-12, "sum of micro-batches");
  check(gradient == whole.d_log_probs, "gradients of micro-batches");
}

static void grid() {
  const double clips[][3] = {{0.2, 0.2, INF}, {0.1, 0.4, 3}, {INF, INF, INF}, {INF, 0.3, 1.5}, {1, INF, 2}};
  unsigned seed = 0;
  for (int level = 0; level < 3; ++level)
    for (const auto& clip : clips)
      for (int aggregation = 0; aggregation < 4; ++aggregation)
        for (int kl = TEAMTR_KL_NONE; kl <= TEAMTR_KL_EXACT; ++kl)
          for (int variant = 0; variant < 4; ++variant) {
            Batch b = random_batch(++seed, {4, 0, 3, 1, 2, 5, 1, 0, 2, 6}, variant & 1, variant & 2);
            b.s.ratio_level = level, b.s.aggregation = aggregation, b.s.kl_term = kl;
            b.s.kl_aggregation = static_cast<int>((seed / 7) % 4), b.s.beta = 0.3, b.s.entropy_coef = 0.05;
            b.s.eps_low = clip[0], b.s.eps_high = clip[1], b.s.dual_clip = clip[2];
            if (seed % 3 == 0) b.s.total_tokens = 50, b.s.total_messages = 17;
            compare(b, true);

            halves(b);
          }
}

static void hand_cases() {
  /* Eq. 10: w = 0.9 * 1.5 * 0.8 = 1.08 inside, 2 above and 0.5 below clip 0.2, on messages, summed over tokens. */
  Batch b = random_batch(1, {3, 1, 1, 1, 1}, false, false);
  const double w[] = {0.9, 1.5, 0.8, 2, 0.5, 2, 0.5};
  for (size_t u = 0; u < 7; ++u) b.old[u] = -1, b.fresh[u] = static_cast<float>(-1 + std::log(w[u]));
  b.advantages = {2, 1, 1, -1, -1};
  b.s.aggregation = TEAMTR_SEQ_MEAN_TOKEN_MEAN;
  b.call();
  close(b.stats[TEAMTR_STAT_OBJECTIVE], (1.08 * 2 + 1.2 + 0.5 - 2 - 0.8) / 5, 1e-6, "Eq. 10");
  const double slope[] = {-2.16 / 15 * 3, -2.16 / 15 * 3, -2.16 / 15 * 3, 0, -0.5 / 5, 2.0 / 5, 0};
  for (size_t u = 0; u < 7; ++u) close(b.d_log_probs[u], slope[u], 1e-6, "gradient of Eq. 10");
  close(b.stats[TEAMTR_STAT_CLIP_LOW], 0.2, 1e-15, "lower clip");
  close(b.stats[TEAMTR_STAT_CLIP_HIGH], 0.2, 1e-15, "upper clip");
  close(b.stats[TEAMTR_STAT_MONITOR_K1], -std::log(1.08) / 5, 1e-6, "Eq. 11");
  close(b.stats[TEAMTR_STAT_KL], 0, 0, "no KL");
  b.s.dual_clip = 1.5, b.call();
  check(b.d_log_probs[5] == 0 && b.d_log_probs[4] != 0, "dual clip");
  close(b.stats[TEAMTR_STAT_CLIP_DUAL], 0.2, 1e-15, "share of the dual clip");

  /* Eq. 9 by hand: mean 2, variance 2.5 (1/4 * 10), then clipped; the second group is all equal. */
  Floats returns = {0, 1, 3, 4, 0.1f, 0.1f, 0.1f, 0.1f}, A(8), centred(8);
  teamtr::group_advantages(returns.data(), 8, 4, 1.5, 0.9, true, A.data(), centred.data());
  const double hand[] = {-0.9, -0.5, 0.5, 0.9, 0, 0, 0, 0};
  for (size_t i = 0; i < 8; ++i) {
    close(A[i], hand[i], 1e-7, "Eq. 9");
    check(centred[i] == (i < 4 ? returns[i] - 2 : 0), "centred", centred[i]);
  }
  teamtr::group_advantages(returns.data(), 8, 4, 0, INF, false, A.data(), nullptr);
  check(A == centred, "Eq. 9 without the division");
  for (int n : {1, 3, 7, 1000}) { /* all equal is 0 to the bit, with no eps to hide behind; in place */
    Floats same(static_cast<size_t>(n), 1e30f / 3);
    teamtr::group_advantages(same.data(), n, n, 0, INF, true, same.data(), nullptr);
    for (float v : same) check(v == 0 && !std::signbit(v), "all-equal group", v);
  }

  const float old[] = {-1, -2, -3, 0}, fresh[] = {-1.5f, -2, -2.5f, 0};
  const int32_t cu[] = {0, 2, 2, 4};
  for (int k = TEAMTR_K1; k <= TEAMTR_ABS; ++k) {
    const auto f = [k](double d) {
      return k == TEAMTR_K1 ? d : k == TEAMTR_K2 ? d * d / 2 : k == TEAMTR_K3 ? std::exp(-d) - 1 + d : std::fabs(d);
    };
    float each[4], sums[3];
    teamtr::sampled_kl(k, old, fresh, 4, {cu, TEAMTR_I32}, 3, each, sums);
    for (int u = 0; u < 4; ++u) close(each[u], f(double(old[u]) - fresh[u]), 1e-7, "sampled KL");
    close(sums[0], f(0.5), 1e-7, "KL of a message"), close(sums[2], f(-0.5), 1e-7, "KL of a message");
    close(sums[1], 0, 0, "KL of an empty message");
    teamtr::sampled_kl(k, old, fresh, 4, {}, 0, each, nullptr);
    teamtr::sampled_kl(k, old, fresh, 4, {cu, TEAMTR_I32}, 3, nullptr, sums);
  }
  for (float d = 1e-9f; d < 1; d *= 1.7f) { /* k3 neither cancels nor goes negative */
    const float zero = 0, minus = -d;
    float value;
    teamtr::sampled_kl(TEAMTR_K3, &zero, &minus, 1, {}, 0, &value, nullptr);
    check(value >= 0 && std::fabs(value / (double(d) * d / 2) - 1) < d + 1e-6, "k3", value, double(d) * d / 2);
  }
  const float never = -INFINITY, now = -1;
  float value;
  teamtr::sampled_kl(TEAMTR_K3, &never, &now, 1, {}, 0, &value, nullptr);
  check(value == INFINITY, "k3 of what old never draws", value);
}

static void special_values() {
  const float inf = std::numeric_limits<float>::infinity();
  for (int level = 0; level < 3; ++level) {
    Batch b = random_batch(3, {3, 2, 0, 4}, false, true); /* nothing counts; then no messages; then no tokens */
    b.s.ratio_level = level, b.s.beta = level, b.s.kl_term = TEAMTR_K1, b.s.entropy_coef = level;
    std::fill(b.mask.begin(), b.mask.end(), uint8_t{0});
    for (int step = 0; step < 3; ++step) {
      b.call();
      for (double s : b.stats) check(s == 0 && !std::signbit(s), "statistic of an empty batch", s);
      const Floats zeros(b.fresh.size());
      check(b.d_log_probs == zeros && b.d_kl == zeros && b.d_entropy == zeros, "gradients of an empty batch");
      b.fresh.clear(), b.cu.assign(step ? 4 : 1, 0);
    }

    b = random_batch(5, {2, 2, 2}, false, false);
    const Batch clean = b;
    b.s.ratio_level = level, b.s.eps_low = b.s.eps_high = INF;
    b.kl[1] = inf, b.entropy[1] = GARBAGE, b.fresh[0] = -inf; /* beta and the entropy are off, w is clamped */
    for (int kl : {int(TEAMTR_KL_EXACT), int(TEAMTR_K2)}) {
      b.s.kl_term = kl, b.call();
      const Floats zeros(6);
      check(std::isfinite(b.stats[TEAMTR_STAT_LOSS]) && b.stats[TEAMTR_STAT_KL] == INF, "beta = 0, infinite KL");
      check(b.d_log_probs[0] == 0 && b.d_kl == zeros && b.d_entropy == zeros, "clamped", b.d_log_probs[0]);
    }
    b = clean; /* -inf - -inf: NaN in the loss and under its own ratio, nowhere else */
    b.s.ratio_level = level, b.old[0] = b.fresh[0] = -inf, b.call();
    const size_t reach = level == TEAMTR_RATIO_TOKEN ? 1 : 2;
    check(std::isnan(b.stats[TEAMTR_STAT_LOSS]) && std::isnan(b.stats[TEAMTR_STAT_RATIO_MAX]), "NaN reaches the loss");
    for (size_t u = 0; u < 6; ++u) check(std::isnan(b.d_log_probs[u]) == (u < reach), "reach of a NaN");
  }
  Batch tie = random_batch(2, {1, 1}, false, false); /* at the edge of the clip the gradient still flows */
  tie.advantages = {1, -1}, tie.fresh = tie.old, tie.s.eps_low = tie.s.eps_high = 0, tie.call();
  for (size_t u = 0; u < 2; ++u) check(tie.d_log_probs[u] == -tie.advantages[u] / 2, "gradient at the edge");

  Surrogate bare = tie.s; /* what is not given */
  Doubles stats(TEAMTR_STATS);
  bare.kl = bare.entropy = bare.centred_returns = nullptr, bare.stats = stats.data();
  bare.d_log_probs = bare.d_kl = bare.d_entropy = nullptr;
  teamtr::surrogate(bare);
  for (size_t i = 0; i < TEAMTR_STATS; ++i) {
    const bool missing = i == TEAMTR_STAT_ENTROPY || i == TEAMTR_STAT_MONITOR_EXACT || i == TEAMTR_STAT_ZETA_NORM;
    check(missing ? std::isnan(stats[i]) : stats[i] == tie.stats[i], "what was not given", stats[i]);
  }

  Batch b = random_batch(9, {300, 41, 0, 977}, true, true); /* long messages: statistics alone */
  b.s.kl_term = TEAMTR_K3, b.s.beta = 0.1, compare(b, false);
}

int main() {
  grid();
  hand_cases();
  special_values();
  check(kinks * 1000 < slopes && slopes > 30000, "few slopes fall on a kink", double(kinks), double(slopes));
  std::printf("token kernels: %ld checks %s\n", checks - failures, failures ? "passed, the rest FAILED" : "passed");
  return failures != 0;
}
