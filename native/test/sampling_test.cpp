/*
 * Self-test of teamtr_sample against the definition written a second time: noise one number at a time in double, the
 * filters by sorting, the draw by looking at every token. Then what holds without a reference: known answers of
 * Philox, chi-square of many draws, independence of rows, threads, strides and CPU level, special rows, rows made to be
 * slow, errors. `sampling_test bench` measures instead.
 *
 *   cmake -S native -B build -DTEAMTR_TEST=ON && cmake --build build && build/test/sampling_test
 */
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "abi.h"
#define TEAMTR_ISA conversions
#include "simd_portable.h"

static const float INF = std::numeric_limits<float>::infinity();
static const float NAN_F = std::numeric_limits<float>::quiet_NaN();
static long checks = 0, failures = 0, draws = 0, hairlines = 0;

static bool check(bool ok, const char* what, double got = 0, double expected = 0) {
  ++checks;
  if (!ok && ++failures <= 20) std::printf("FAILED %s: got %.9g, expected %.9g\n", what, got, expected);
  return ok;
}
static bool same_bits(float a, float b) { return std::memcmp(&a, &b, 4) == 0; }
static double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
static double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the definition ---- */

using Word4 = std::array<uint32_t, 4>;

static Word4 philox(Word4 c, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; round++, k0 += 0x9e3779b9, k1 += 0xbb67ae85) {
    const uint64_t a = (uint64_t)0xd2511f53 * c[0], b = (uint64_t)0xcd9e8d57 * c[2];
    c = {(uint32_t)(b >> 32) ^ c[1] ^ k0, (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k1, (uint32_t)a};
  }
  return c;
}

struct Draw { /* what the random numbers depend on */
  uint64_t seed = 1;
  int32_t step = 0;
  int64_t row_id = 0;

  Word4 words(uint32_t first) const {
    return philox({first, (uint32_t)step, (uint32_t)row_id, (uint32_t)((uint64_t)row_id >> 32)}, (uint32_t)seed,
                  (uint32_t)(seed >> 32));
  }
  /* Number i of a sequence of exponential variates. */
  double variate(uint32_t first, int64_t i) const {
    const Word4 w = words(first + (uint32_t)(i / 64 * 16 + i % 16));
    return -std::log1p(-(w[i / 16 % 4] + 0.5) * 0x1p-32);
  }
  static uint32_t blocks(int attempt) { return (uint32_t)attempt << 28; }
  static uint32_t segments(int attempt) { return (uint32_t)attempt << 28 | 1u << 26; }
  static uint32_t tokens(int attempt) { return (uint32_t)attempt << 28 | 2u << 26; }
  static constexpr uint32_t kKept = 1u << 31;
};

/* The candidates whose score weight(i) / E_i is the largest, or so near it that rounding may decide. */
template <class W> static std::vector<int64_t> winners(const Draw& draw, uint32_t first, int64_t n, W&& weight) {
  std::vector<double> score(n);
  for (int64_t i = 0; i < n; i++) score[i] = weight(i) > 0 ? std::log(weight(i)) - std::log(draw.variate(first, i)) : -INF;
  const double best = *std::max_element(score.begin(), score.end());
  std::vector<int64_t> found;
  for (int64_t i = 0; i < n; i++)
    if (score[i] > -INF && score[i] >= best - 1e-5) found.push_back(i);
  return found;
}

/* What one attempt may draw of tokens of these weights: a block, a segment of it, a token of that. */
static std::vector<int64_t> attempt(const Draw& draw, int number, const std::vector<double>& e) {
  const int64_t V = (int64_t)e.size(), blocks = (V + 2047) / 2048;
  std::vector<double> of_blocks(blocks), of_segments(blocks * 32);
  const auto token = [](int64_t block, int64_t segment, int64_t i) { return block * 2048 + i / 8 * 256 + segment * 8 + i % 8; };
  for (int64_t v = 0; v < V; v++) of_blocks[v / 2048] += e[v], of_segments[v / 2048 * 32 + v % 256 / 8] += e[v];
  std::vector<int64_t> found;
  for (const int64_t b : winners(draw, Draw::blocks(number), blocks, [&](int64_t i) { return of_blocks[i]; }))
    for (const int64_t s : winners(draw, Draw::segments(number), 32, [&](int64_t i) { return of_segments[b * 32 + i]; }))
      for (const int64_t i : winners(draw, Draw::tokens(number), 64, [&](int64_t i) {
             return token(b, s, i) < V ? e[token(b, s, i)] : 0.0;
           }))
        found.push_back(token(b, s, i));
  return found;
}

struct Filters {
  int64_t top_k = 0;
  float top_p = 1, min_p = 0;
};

/* The tokens a draw may give, and their log-probs among what is kept; more than one where rounding may decide. */
struct Expected {
  std::vector<int64_t> tokens;
  std::vector<double> log_kept;
};

static Expected expect(const std::vector<float>& x, double t, const Filters& f, const Draw& draw) {
  const int64_t V = (int64_t)x.size();
  std::vector<int64_t> order(V);
  for (int64_t v = 0; v < V; v++) order[v] = v;
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return x[a] > x[b]; });
  const double max = x[order[0]];
  std::vector<double> e(V), mass(V + 1);
  for (int64_t i = 0; i < V; i++) {
    e[i] = std::exp((x[order[i]] - max) / t);
    mass[i + 1] = mass[i] + e[i];
  }
  const int64_t n_k = f.top_k > 0 ? std::min(f.top_k, V) : V;
  int64_t n_m = 0;
  while (n_m < V && (f.min_p == 0 || x[order[n_m]] >= max + t * std::log((double)f.min_p))) n_m++;
  const auto count = [&](double slack) { /* kept, with the target a little off */
    int64_t n = 1;
    while (f.top_p < 1 && n < n_k && mass[n] < (1 + slack) * f.top_p * mass[n_k]) n++;
    return std::min(f.top_p < 1 ? n : n_k, n_m);
  };
  std::vector<double> by_id(V);
  std::vector<int64_t> rank(V);
  for (int64_t i = 0; i < V; i++) by_id[order[i]] = e[i], rank[order[i]] = i;
  std::vector<int64_t> attempts[4];
  for (int k = 0; k < 4; k++) attempts[k] = attempt(draw, k, by_id);
  Expected out;
  const int64_t first = count(-2e-6), last = count(2e-6), exact = count(0);
  hairlines += first < last;
  for (int64_t n = first; n <= last; n = n < exact ? exact : n < last ? last : last + 1) {
    const auto take = [&](int64_t v) {
      out.tokens.push_back(v);
      out.log_kept.push_back((x[v] - max) / t - std::log(mass[n]));
    };
    bool taken = false; /* the first of the attempts that is kept */
    for (int k = 0; k < 4 && !taken; k++) {
      taken = true;
      for (const int64_t v : attempts[k]) {
        if (rank[v] < n) take(v);
        else taken = false;
      }
    }
    if (!taken)
      for (const int64_t v : winners(draw, Draw::kKept, V, [&](int64_t v) { return rank[v] < n ? by_id[v] : 0.0; })) take(v);
  }
  return out;
}

/* ---- logits of any dtype, and the call ---- */

struct Logits {
  int32_t dtype;
  int64_t rows, vocab, stride;
  std::vector<char> bytes;
  size_t offset; /* of the first element, to be unaligned */

  Logits(int32_t dtype, int64_t rows, int64_t vocab, int64_t padding = 0)
      : dtype(dtype), rows(rows), vocab(vocab), stride(vocab + padding) {
    offset = padding ? (size_t)teamtr::bytes_of(dtype) : 0;
    bytes.resize((rows * stride + 1) * teamtr::bytes_of(dtype));
    for (int64_t i = 0; i < rows * stride; i++) put(i, NAN_F); /* what must not be read spoils the row */
  }
  char* at(int64_t i) { return bytes.data() + offset + i * teamtr::bytes_of(dtype); }
  void put(int64_t i, float x) {
    uint32_t u;
    std::memcpy(&u, &x, 4);
    if (dtype == TEAMTR_BF16) u = (u + (x == x ? 0x7fff + (u >> 16 & 1) : 0)) >> 16;
    if (dtype == TEAMTR_F16) {
      uint16_t h[16];
      teamtr::conversions::store_f16(h, teamtr::conversions::set(x));
      u = h[0];
    }
    std::memcpy(at(i), &u, teamtr::bytes_of(dtype)); /* little end first */
  }
  void set(int64_t r, const std::vector<float>& x) {
    for (int64_t v = 0; v < vocab; v++) put(r * stride + v, x[v]);
  }
  std::vector<float> row(int64_t r) {
    const teamtr::Matrix m((teamtr_address)at(0), dtype, rows, vocab, stride, rows, 0);
    std::vector<float> x(vocab);
    for (int64_t v = 0; v < vocab; v++) x[v] = m.value(r, v);
    return x;
  }
};

template <class T> static teamtr_address address(const std::vector<T>& v) { return (teamtr_address)v.data(); }

struct Sampled {
  std::vector<int64_t> tokens;
  std::vector<float> log_probs, kept;
  bool operator==(const Sampled& o) const {
    return tokens == o.tokens && !std::memcmp(log_probs.data(), o.log_probs.data(), log_probs.size() * 4) &&
           !std::memcmp(kept.data(), o.kept.data(), kept.size() * 4);
  }
};

struct Call {
  Logits* logits;
  float temperature = 1;
  std::vector<float> temperatures = {};
  Filters filters = {};
  Draw draw = {};
  std::vector<int64_t> ids = {};
  int64_t rows_per_batch = 0, batch_stride = 0; /* 0: all rows in one batch */
  bool want_kept = true;

  Sampled operator()() const {
    const int64_t n = logits->rows;
    Sampled s{std::vector<int64_t>(n, 77), std::vector<float>(n, 77), std::vector<float>(n, 77)};
    const int32_t status = teamtr_sample(TEAMTR_CPU, 0, 
        (teamtr_address)logits->at(0), logits->dtype, n, logits->vocab, logits->stride,
        rows_per_batch ? rows_per_batch : n + 1, batch_stride, temperature,
        temperatures.empty() ? 0 : address(temperatures), filters.top_k, filters.top_p,
        filters.min_p, draw.seed, draw.step, ids.empty() ? 0 : address(ids), address(s.tokens), TEAMTR_I64,
        address(s.log_probs), want_kept ? address(s.kept) : 0);
    check(status == TEAMTR_OK, teamtr_last_error(), status);
    draws += n;
    return s;
  }
};

/* Runs a call on every CPU level and every way of asking, and compares with the definition and with log-probs. */
static Sampled compare(Call call, const char* what) {
  const int best = teamtr_cpu_best();
  const Sampled s = call();
  for (int level = 0; level < best; level++) {
    teamtr_cpu_force(level);
    const Sampled other = call();
    if (level > TEAMTR_PORTABLE) check(other == s, "AVX2 and AVX-512 differ", 0);
    else for (size_t r = 0; r < s.tokens.size(); r++) {
      const double got = other.kept[r], wanted = s.kept[r];
      if (other.tokens[r] != s.tokens[r]) hairlines++; /* counted, and compared with nothing: no FMA, other last bits */
      else if (s.tokens[r] >= 0) check(std::fabs(got - wanted) <= 4e-6 * (1 + std::fabs(wanted)), "portable", got, wanted);
    }
  }
  teamtr_cpu_force(best);
  call.want_kept = false;
  check(call().tokens == s.tokens, "tokens depend on what is asked for");

  Logits& x = *call.logits;
  std::vector<float> lp(x.rows), t(x.rows);
  for (int64_t r = 0; r < x.rows; r++) t[r] = call.temperatures.empty() ? call.temperature : call.temperatures[r];
  std::vector<float> positive = t;
  for (float& e : positive) e = e > 0 ? e : 1;
  std::vector<int64_t> targets = s.tokens;
  for (auto& v : targets) v = v < 0 ? 0 : v;
  const int32_t status =
      teamtr_log_probs(TEAMTR_CPU, 0, (teamtr_address)x.at(0), x.dtype, x.rows, x.vocab, x.stride, x.rows + 1, 0, address(targets),
                       TEAMTR_I64, 1, address(positive), address(lp), 0, 0);
  check(status == TEAMTR_OK, teamtr_last_error());
  for (int64_t r = 0; r < x.rows; r++) {
    const bool nan = std::isnan(lp[r]) && std::isnan(s.log_probs[r]) && s.tokens[r] < 0;
    check(nan || same_bits(lp[r], s.log_probs[r]), "log-prob bits", s.log_probs[r], lp[r]);
    if (s.tokens[r] < 0) continue;
    const bool all = call.filters.top_k == 0 && call.filters.top_p == 1 && call.filters.min_p == 0;
    check(!all || t[r] == 0 || same_bits(s.kept[r], s.log_probs[r]), "kept without filters", s.kept[r], s.log_probs[r]);
    const std::vector<float> row = x.row(r);
    if (t[r] == 0) {
      check(s.tokens[r] == std::max_element(row.begin(), row.end()) - row.begin(), "greedy token", (double)s.tokens[r]);
      check(s.kept[r] == 0, "greedy kept", s.kept[r]);
      continue;
    }
    Draw d = call.draw;
    d.row_id = call.ids.empty() ? r : call.ids[r];
    const Expected e = expect(row, t[r], call.filters, d);
    size_t hit = 0;
    const auto good = [&](size_t i) {
      return s.tokens[r] == e.tokens[i] && std::fabs(s.kept[r] - e.log_kept[i]) <= 3e-6 * (1 + std::fabs(e.log_kept[i]));
    };
    while (hit < e.tokens.size() && !good(hit)) hit++;
    if (hit < e.tokens.size()) { ++checks; continue; }
    std::printf("%s, dtype %d, V %ld, row %ld, T %g, k %ld, p %g, m %g: token %ld, kept %.9g\n", what, x.dtype,
                (long)x.vocab, (long)r, t[r], (long)call.filters.top_k, call.filters.top_p, call.filters.min_p,
                (long)s.tokens[r], s.kept[r]);
    check(false, "token, kept log-prob", s.kept[r], e.log_kept[0]);
  }
  return s;
}

/* ---- parts of the test ---- */

static std::mt19937_64 rng(7);
static float normal() { return std::normal_distribution<float>()(rng); }
static double uniform() { return std::uniform_real_distribution<double>()(rng); }

enum Shape { WIDE, FLAT, PEAKED, TIES, MASKED, SPIKES, SHAPES };
static std::vector<float> logits_of(Shape shape, int64_t V) {
  std::vector<float> x(V);
  const float shift = (float)(rng() % 3 * 40) - 40;
  for (auto& e : x) {
    const float z = normal();
    e = shift + (shape == FLAT ? 0.1f * z : shape == PEAKED ? 2 * z - 12 : shape == TIES ? std::round(2 * z) / 2 : 3 * z);
    if (shape == MASKED && rng() % 3) e = -INF;
  }
  if (shape == PEAKED || shape == SPIKES)
    for (int i = 0; i < 20; i++) x[rng() % V] = shift + (shape == SPIKES ? 12 : 3) - 0.3f * (float)i;
  if (shape == MASKED) x[rng() % V] = shift;
  return x;
}

static void test_philox() {
  const Word4 inputs[3] = {{0, 0, 0, 0}, {~0u, ~0u, ~0u, ~0u}, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}};
  const uint32_t keys[3][2] = {{0, 0}, {~0u, ~0u}, {0xa4093822, 0x299f31d0}};
  const Word4 answers[3] = {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                            {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                            {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};
  for (int i = 0; i < 3; i++) {
    check(philox(inputs[i], keys[i][0], keys[i][1]) == answers[i], "Philox of this test", i);
    for (int level = 0; level <= teamtr_cpu_best(); level++) {
      teamtr_cpu_force(level);
      Word4 out;
      teamtr::row_kernels().philox(inputs[i].data(), keys[i], out.data());
      check(out == answers[i], "Philox", level);
    }
  }
}

/* The definition's noise: exponential, and independent within a sequence, between sequences, rows, steps, seeds. */
static void test_noise() {
  const int n = 40000;
  std::vector<std::vector<double>> e(9, std::vector<double>(n));
  for (int i = 0; i < n; i++) {
    const Draw draw{1, 0, i};
    e[0][i] = draw.variate(Draw::blocks(0), 5);
    e[1][i] = draw.variate(Draw::blocks(0), 5 + 16); /* another word of the same counter */
    e[2][i] = draw.variate(Draw::blocks(0), 6);
    e[3][i] = draw.variate(Draw::segments(0), 5);
    e[4][i] = draw.variate(Draw::tokens(0), 5);
    e[5][i] = draw.variate(Draw::blocks(1), 5);
    e[6][i] = draw.variate(Draw::kKept, 5);
    e[7][i] = Draw{1, 1, i}.variate(Draw::blocks(0), 5);
    e[8][i] = Draw{2, 0, i}.variate(Draw::blocks(0), 5);
  }
  for (auto& v : e) {
    double s = 0, s2 = 0, small = 0;
    for (const double z : v) s += z, s2 += z * z, small += z < 0.01;
    check(std::fabs(s / n - 1) < 5 / std::sqrt(n), "mean of an exponential", s / n, 1);
    check(std::fabs(s2 / n - 2) < 5 * std::sqrt(20.0 / n), "its second moment", s2 / n, 2);
    check(std::fabs(small - n * 0.00995) < 5 * std::sqrt(n * 0.01), "its small values", small, n * 0.00995);
  }
  for (size_t a = 0; a < e.size(); a++)
    for (size_t b = 0; b < a; b++) {
      double c = 0, both = 0;
      for (int i = 0; i < n; i++) c += (e[a][i] - 1) * (e[b][i] - 1), both += e[a][i] < 0.1 && e[b][i] < 0.1;
      const double p = (1 - std::exp(-0.1)) * (1 - std::exp(-0.1));
      check(std::fabs(c / n) < 5 / std::sqrt(n), "correlation", c / n, 0);
      check(std::fabs(both - n * p) < 5 * std::sqrt(n * p), "small together", both, n * p);
    }
}

/* Chi-square against probabilities, bins of expected count under 5 put together; five standard deviations. */
static void chi_square(const std::vector<double>& counts, const std::vector<double>& p, const char* what) {
  double n = 0, chi = 0, rest = 0, rest_expected = 0;
  int bins = 0;
  for (const double c : counts) n += c;
  const auto bin = [&](double c, double expected) { chi += (c - expected) * (c - expected) / expected, bins++; };
  for (size_t i = 0; i < counts.size(); i++) {
    if (p[i] == 0) check(counts[i] == 0, "a token of probability 0 was drawn", (double)i);
    else if (n * p[i] < 5) rest += counts[i], rest_expected += n * p[i];
    else bin(counts[i], n * p[i]);
  }
  if (rest_expected > 0) bin(rest, rest_expected);
  check(chi < bins - 1 + 5 * std::sqrt(2.0 * (bins - 1)) + 10, what, chi, bins - 1);
}

static void test_distribution(bool quick) {
  const int64_t n = quick ? 20000 : 200000;
  for (const int V : {50, 300, 4500}) {
    Logits x(TEAMTR_F32, 1, V);
    x.rows = n; /* every one the first, by a batch stride of 0 */
    std::vector<float> row(V);
    for (auto& e : row) e = V == 50 ? 2 * normal() : 0.3f * normal();
    row[3] = -INF;
    x.set(0, row);
    for (const float t : {0.5f, 1.0f, 2.0f})
      for (const Filters f : {Filters{}, Filters{V / 5, 1, 0}, Filters{0, 0.8f, 0}, Filters{0, 1, 0.1f}}) {
        if (V > 50 && (t != 1 || f.min_p > 0)) continue;
        Call call{&x, t};
        call.filters = f, call.rows_per_batch = 1, call.want_kept = false;
        const Sampled s = call();
        std::vector<double> counts(V), p(V), pairs(64), flat(64, 1.0 / 64);
        std::vector<int> order(V);
        for (int v = 0; v < V; v++) order[v] = v;
        std::sort(order.begin(), order.end(), [&](int a, int b) { return row[a] > row[b]; });
        double all = 0, kept = 0;
        for (int i = 0; i < V; i++) all += p[order[i]] = std::exp((row[order[i]] - row[order[0]]) / t);
        for (int i = 0; i < V; i++) {
          if ((f.top_k && i >= f.top_k) || kept >= f.top_p * all || p[order[i]] < f.min_p) p[order[i]] = 0;
          kept += p[order[i]];
        }
        for (auto& e : p) e /= kept;
        for (const int64_t v : s.tokens) counts[v]++;
        chi_square(counts, p, "chi-square of draws");
      }
  }
  { /* a real vocabulary: which block, which segment of a block, which token of a segment */
    const int64_t V = 151936, n = quick ? 2000 : 40000;
    Logits x(TEAMTR_BF16, 1, V);
    std::vector<float> row(V);
    for (auto& e : row) e = 1.5f * normal();
    x.set(0, row);
    row = x.row(0);
    x.rows = n;
    const auto place = [](int64_t v, int kind) { return kind == 0 ? v / 2048 : kind == 1 ? v % 256 / 8 : v / 256 % 8 * 8 + v % 8; };
    for (const float top_p : {1.0f, 0.6f}) {
      std::vector<int64_t> order(V);
      for (int64_t v = 0; v < V; v++) order[v] = v;
      std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
      std::vector<double> p(V);
      double all = 0, kept = 0;
      for (int64_t v = 0; v < V; v++) all += p[v] = std::exp((double)row[v] - row[order[0]]);
      for (const int64_t v : order) {
        if (kept >= top_p * all) p[v] = 0;
        kept += p[v];
      }
      Call call{&x};
      call.filters.top_p = top_p, call.rows_per_batch = 1, call.want_kept = false, call.draw.seed = 11;
      const Sampled s = call();
      for (int kind = 0; kind < 3; kind++) {
        std::vector<double> counts(75), expected(75);
        for (const int64_t v : s.tokens) counts[place(v, kind)]++, check(p[v] > 0, "a token that is not kept");
        for (int64_t v = 0; v < V; v++) expected[place(v, kind)] += p[v] / kept;
        chi_square(counts, expected, "chi-square over a real vocabulary");
      }
    }
  }
  Logits x(TEAMTR_F32, 1, 8); /* successive rows, and successive steps, are independent */
  x.rows = n;
  x.set(0, std::vector<float>(8, 1.0f));
  Call call{&x};
  call.rows_per_batch = 1;
  const Sampled a = call();
  call.draw.step = 1;
  const Sampled b = call();
  std::vector<double> rows(64), steps(64), p(64, 1.0 / 64);
  for (int64_t r = 0; r + 1 < n; r++) rows[a.tokens[r] * 8 + a.tokens[r + 1]]++, steps[a.tokens[r] * 8 + b.tokens[r]]++;
  chi_square(rows, p, "chi-square of pairs of rows");
  chi_square(steps, p, "chi-square of pairs of steps");
}

static void test_filters(bool quick) {
  for (const int64_t V : {1, 7, 63, 64, 65, 2049, 8200, 50257, 151936})
    for (int dtype = 0; dtype < 3; dtype++)
      for (int shape = 0; shape < SHAPES; shape++) {
        const int64_t rows = V < 100 ? 40 : V < 10000 ? 10 : 1;
        if (quick && V > 10000 && shape % 3 != dtype) continue;
        Logits x(dtype, rows, V, V == 65 ? 3 : 0);
        for (int64_t r = 0; r < rows; r++) x.set(r, logits_of((Shape)shape, V));
        for (int kind = 0; kind < 8; kind++) {
          Call call{&x};
          const int k = kind & 1, p = kind & 2, m = kind & 4;
          if (k) call.filters.top_k = 1 + (int64_t)(std::pow((double)V * 1.1, uniform()));
          if (p) call.filters.top_p = (float)(rng() % 3 ? uniform() * 0.999 + 1e-3 : 0.95);
          if (m) call.filters.min_p = (float)std::pow(10, -4 * uniform());
          call.temperature = (float)std::exp(normal() * 0.5f);
          call.draw = {rng(), (int32_t)(rng() >> 33), 0};
          for (int64_t r = 0; r < rows; r++) call.ids.push_back((int64_t)rng());
          compare(call, "random row");
        }
      }
}

/* Cuts that are exact numbers: equal tokens, and the edge goes to the lower ids. */
static void test_ties() {
  for (const int64_t V : {1, 5, 64, 100, 4096, 151936})
    for (int dtype = 0; dtype < 3; dtype++) {
      Logits x(dtype, 12, V);
      for (int r = 0; r < 12; r++) x.set(r, std::vector<float>(V, r % 2 ? -3.5f : 0.0f));
      const auto kept = [&](const Filters& f, int64_t n, const char* what) {
        Call call{&x};
        call.filters = f;
        for (const bool want : {true, false}) {
          call.want_kept = want;
          const Sampled s = call();
          for (int r = 0; r < 12; r++) {
            check(s.tokens[r] >= 0 && s.tokens[r] < n, what, (double)s.tokens[r], (double)n);
            const double log_n = std::log((double)n);
            if (want) check(std::fabs(s.kept[r] + log_n) < 1e-6 * (1 + log_n), what, s.kept[r], -log_n);
          }
        }
      };
      kept({}, V, "equal tokens");
      kept({1, 1, 0}, 1, "equal tokens, top-k 1");
      kept({50, 1, 0}, std::min<int64_t>(50, V), "equal tokens, top-k 50");
      kept({0, 0.25f, 0}, (V + 3) / 4, "equal tokens, top-p 0.25");
      kept({50, 0.5f, 0}, (std::min<int64_t>(50, V) + 1) / 2, "equal tokens, top-k 50, top-p 0.5");
      kept({0, 1e-30f, 0}, 1, "equal tokens, smallest top-p");
      kept({0, 1, 1}, V, "equal tokens, min-p 1");
      kept({std::numeric_limits<int64_t>::max(), 1, 0}, V, "top-k beyond the vocabulary");
    }
  Logits zeros(TEAMTR_F32, 40, 100); /* -0 and 0 are equal */
  for (int r = 0; r < 40; r++) {
    std::vector<float> x(100, -1.0f);
    for (int v = 0; v < 60; v++) x[v] = v % 2 ? 0.0f : -0.0f;
    zeros.set(r, x);
  }
  Call call{&zeros};
  call.filters.top_k = 30;
  const Sampled s = compare(call, "signed zeros");
  for (const int64_t v : s.tokens) check(v < 30, "signed zeros", (double)v);
}

/* A row's draw depends on the row, its id, step and seed alone. */
static void test_independence() {
  const int64_t V = 5000, n = 64;
  for (int dtype = 0; dtype < 3; dtype++)
    for (const Filters f : {Filters{}, Filters{0, 0.9f, 0}, Filters{40, 0.9f, 0.01f}}) {
      Logits x(dtype, n, V), padded(dtype, n, V, 5);
      std::vector<std::vector<float>> rows;
      for (int64_t r = 0; r < n; r++) {
        rows.push_back(logits_of((Shape)(r % SHAPES), V));
        x.set(r, rows[r]), padded.set(r, rows[r]);
      }
      Call call{&x};
      call.filters = f;
      for (int64_t r = 0; r < n; r++) call.ids.push_back(1000 - 3 * r);
      const Sampled s = call();
      for (const int threads : {1, 2, 3}) {
        teamtr_threads_set(threads);
        check(call() == s, "threads change the result", threads);
      }
      call.logits = &padded;
      check(call() == s, "stride and alignment change the result");
      Logits back(dtype, n, V);
      Call reversed{&back};
      reversed.filters = f;
      for (int64_t r = 0; r < n; r++) back.set(r, rows[n - 1 - r]), reversed.ids.push_back(call.ids[n - 1 - r]);
      const Sampled t = reversed();
      for (int64_t r = 0, o = n - 1; r < n; r++, o--)
        check(t.tokens[r] == s.tokens[o] && same_bits(t.kept[r], s.kept[o]), "place in the batch");
      for (int64_t r = 0; r < n; r += 7) {
        Logits alone(dtype, 1, V);
        alone.set(0, rows[r]);
        Call one{&alone};
        one.filters = f, one.ids = {call.ids[r]};
        check(one().tokens[0] == s.tokens[r], "a row alone", (double)one().tokens[0], (double)s.tokens[r]);
      }
      /* A longer vocabulary of masked tokens does not change the noise of the first ones. */
      Logits longer(dtype, n, V + 777);
      for (int64_t r = 0; r < n; r++) {
        std::vector<float> e = rows[r];
        e.resize(V + 777, -INF);
        longer.set(r, e);
      }
      call.logits = &longer;
      check(call().tokens == s.tokens, "masked tokens at the end change the token");
    }
  teamtr_threads_set(2);
}

static void test_special() {
  for (const int64_t V : {1, 40, 3000})
    for (int dtype = 0; dtype < 3; dtype++)
      for (const Filters f : {Filters{}, Filters{3, 0.9f, 0.1f}, Filters{2000, 1, 0}}) {
        Logits x(dtype, 8, V);
        std::vector<std::vector<float>> rows(8, std::vector<float>(V, 0.5f));
        rows[1][V / 2] = NAN_F;
        rows[2][V / 2] = INF;
        rows[3].assign(V, -INF);
        rows[4].assign(V, -INF), rows[4][V - 1] = -2.0f;         /* one token */
        rows[5][V - 1] = dtype == TEAMTR_F16 ? 6e4f : 3e38f;     /* differences overflow */
        rows[5][0] = V > 1 ? -rows[5][V - 1] : rows[5][0];
        rows[6].assign(V, dtype == TEAMTR_F16 ? -6e4f : -3e38f); /* finite masks are not masks */
        for (auto& e : rows[7]) e = rng() % 2 ? -INF : normal();
        rows[7][0] = 1;
        for (int r = 0; r < 8; r++) x.set(r, rows[r]);
        for (const float t : {1.0f, 0.0f, 1e-30f, 1e30f}) {
          Call call{&x, t};
          call.filters = f;
          const Sampled s = compare(call, "special row");
          for (int r = 1; r < 4; r++)
            check(s.tokens[r] == -1 && std::isnan(s.log_probs[r]) && std::isnan(s.kept[r]), "no distribution", r);
          check(s.tokens[4] == V - 1 && s.log_probs[4] == 0 && s.kept[4] == 0, "only token", (double)s.tokens[4]);
          if (dtype != TEAMTR_F16 || t <= 1) check(s.tokens[5] == V - 1, "overflow", (double)s.tokens[5]);
          const std::vector<float> mixed = x.row(7);
          if (t < 1) check(mixed[s.tokens[7]] == *std::max_element(mixed.begin(), mixed.end()), "coldest");
          check(mixed[s.tokens[7]] > -INF, "a masked token was drawn");
        }
      }
  Logits mixed(TEAMTR_F32, 60, 300); /* greedy rows among others */
  Call call{&mixed};
  for (int r = 0; r < 60; r++) mixed.set(r, logits_of(TIES, 300)), call.temperatures.push_back(r % 3 ? 0.0f : 0.7f);
  call.filters = {20, 0.9f, 0};
  compare(call, "mixed temperatures");
}

/* Rows that would be slow if anything were: no time may be out of proportion, and the result right. */
static void test_slow_rows(bool quick) {
  const int64_t V = quick ? 70000 : 300000;
  std::vector<std::vector<float>> rows;
  std::vector<float> x(V);
  for (int64_t v = 0; v < V; v++) x[v] = std::ldexp((float)(8388608 + v * 7919 % V), -23); /* neighbours */
  rows.push_back(x);
  for (int64_t v = 0; v < V; v++) x[v] = (float)(v % 2); /* two values */
  rows.push_back(x);
  std::vector<bool> in_sample(V / 16 + 1);
  const int64_t vectors = V / 64 * 4, sampled = vectors < 16384 ? 256 : 512;
  for (int64_t i = 0; i < sampled; i++) in_sample[vectors * i / sampled] = true;
  for (int64_t v = 0; v < V; v++) x[v] = in_sample[v / 16] ? -9.0f : 1e-3f * normal(); /* the sample sees none of it */
  rows.push_back(x);
  for (int64_t v = 0; v < V; v++) x[v] = in_sample[v / 16] ? 2.0f : -3 + normal(); /* and here nothing else */
  rows.push_back(x);
  for (int64_t v = 0; v < V; v++) x[v] = v % 20 ? -50000.0f : normal(); /* finite masks */
  rows.push_back(x);
  for (int64_t v = 0; v < V; v++) x[v] = 30 * std::log((v + 1) / (float)V) * (v % 3 ? 1.0f : 1e-20f); /* all sizes */
  rows.push_back(x);
  for (size_t i = 0; i < rows.size(); i++) {
    Logits one(TEAMTR_F32, 1, V);
    one.set(0, rows[i]);
    for (const Filters f : {Filters{}, Filters{0, 0.5f, 0}, Filters{0, 0.95f, 0}, Filters{0, 0.99999994f, 0},
                            Filters{V / 3, 1, 0}, Filters{V / 30, 0.7f, 0.2f}, Filters{0, 1, 0.3f}}) {
      Call call{&one};
      call.filters = f;
      if (!quick || (i + (size_t)(f.top_p * 10)) % 3 == 0) compare(call, "slow row");
      double best = 1e9; /* of this thread alone, which computes one row: other programs have no say */
      for (int k = 0; k < 3; k++) {
        const double start = thread_seconds();
        call();
        best = std::min(best, thread_seconds() - start);
      }
      check(best < (quick ? 1.0 : 0.02), "seconds for one row", best, 0.001); /* quadratic would be minutes */
    }
  }
}

static void test_errors() {
  Logits x(TEAMTR_F32, 2, 4);
  x.set(0, {1, 2, 3, 4}), x.set(1, {1, 2, 3, 4});
  std::vector<int32_t> tokens(2, 77);
  std::vector<float> lp(2, 77), temperatures = {1, -1};
  const auto call = [&](int64_t rows, float t, teamtr_address ts, int64_t k, float p, float m, int32_t step, int32_t type,
                        teamtr_address out) {
    return teamtr_sample(TEAMTR_CPU, 0, (teamtr_address)x.at(0), TEAMTR_F32, rows, 4, 4, 4, 0, t, ts, k, p, m, 1, step, 0, out, type,
                         address(lp), 0);
  };
  const auto refused = [&](int32_t status, const char* words) {
    check(status == TEAMTR_INVALID, words, status, TEAMTR_INVALID);
    check(std::strstr(teamtr_last_error(), words) != nullptr, teamtr_last_error());
    check(tokens[0] == 77 && tokens[1] == 77 && lp[0] == 77 && lp[1] == 77, "written in spite of an error");
  };
  const teamtr_address out = address(tokens);
  refused(call(2, -1, 0, 0, 1, 0, 0, 0, out), "temperature -1");
  refused(call(2, NAN_F, 0, 0, 1, 0, 0, 0, out), "temperature nan");
  refused(call(2, 1, address(temperatures), 0, 1, 0, 0, 0, out), "temperature[1] is -1");
  refused(call(2, 1, 0, -1, 1, 0, 0, 0, out), "topK -1");
  for (const float p : {0.0f, -0.5f, 1.5f, NAN_F}) refused(call(2, 1, 0, 0, p, 0, 0, 0, out), "topP");
  for (const float m : {-0.5f, 1.5f, NAN_F}) refused(call(2, 1, 0, 0, 1, m, 0, 0, out), "minP");
  refused(call(2, 1, 0, 0, 1, 0, -1, 0, out), "step -1");
  refused(call(2, 1, 0, 0, 1, 0, 0, 2, out), "tokens: type 2");
  refused(call(2, 1, 0, 0, 1, 0, 0, 0, 0), "tokens: not given");
  refused(call(-1, 1, 0, 0, 1, 0, 0, 0, out), "rows -1");
  check(call(0, 1, 0, 0, 1, 0, 0, 0, 0) == TEAMTR_OK && tokens[0] == 77, "0 rows");
  check(call(2, 1, 0, 0, 1, 0, 0, 0, out) == TEAMTR_OK && tokens[0] >= 0 && tokens[0] < 4, "int32 tokens", tokens[0]);
}

/* ---- bench ---- */

/* Seconds for all rows on two threads at once, each row's time being the best of its passes: what other programs take
 * from the machine falls out, what the rows take from each other's caches and memory does not. */
template <class F> static double sweep_time(int64_t rows, F&& f) {
  std::vector<double> best(rows, 1e9);
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; t++)
    threads.emplace_back([&, t] {
      for (int pass = 0; pass < 12; pass++)
        for (int64_t r = t; r < rows; r += 2) {
          const double start = seconds();
          f(r);
          best[r] = std::min(best[r], seconds() - start);
        }
    });
  for (auto& t : threads) t.join();
  double all = 0;
  for (const double b : best) all += b;
  return all / 2;
}

static void bench() {
  const int64_t V = 151936, rows = 256;
  std::vector<float> normals(1 << 20);
  for (auto& z : normals) z = normal();
  std::printf("V %ld, %ld rows, 2 threads, CPU level %d; GB/s, share of a plain read, us per row and thread\n", (long)V,
              (long)rows, teamtr_cpu_level());
  for (int flat = 0; flat < 2; flat++)
    for (int dtype = 0; dtype < 2; dtype++) {
      Logits x(dtype, rows, V);
      const float width = flat ? 0.1f : 3.0f;
      for (int64_t i = 0; i < rows * V; i++) x.put(i, width * normals[(uint64_t)i * 0x9E3779B97F4A7C15u >> 44]);
      for (int64_t i = 0; !flat && i < rows * 5; i++) x.put(i / 5 * V + (int64_t)(rng() % V), 14 + normal());
      const double bytes = (double)rows * V * teamtr::bytes_of(dtype);
      double read = 0;
      const auto print = [&](const char* name, double s) {
        if (read == 0) read = s;
        std::printf("  %-20s %5.1f  %.2f  %5.1f\n", name, bytes / s * 1e-9, read / s, s * 2e6 / rows);
      };
      std::printf("%s %s\n", flat ? "N(0, 0.1)" : "N(0, 3) and spikes", dtype ? "bf16" : "f32");
      std::vector<uint64_t> sums(rows);
      print("plain read", sweep_time(rows, [&](int64_t r) {
        const uint64_t* p = (const uint64_t*)x.at(r * V);
        uint64_t s[8] = {};
        for (int64_t i = 0; i < (int64_t)(bytes / rows / 8); i += 8)
          for (int k = 0; k < 8; k++) s[k] ^= p[i + k];
        sums[r] = s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
      }));
      std::vector<int32_t> tokens(rows, 3);
      std::vector<float> lp(rows), kept(rows);
      print("log-probs alone", sweep_time(rows, [&](int64_t r) {
        teamtr_log_probs(TEAMTR_CPU, 0, (teamtr_address)x.at(r * V), dtype, 1, V, V, 1, 0, (teamtr_address)&tokens[r], TEAMTR_I32, 1, 0,
                         (teamtr_address)&lp[r], 0, 0);
      }));
      const struct {
        const char* name;
        Filters f;
        bool kept;
      } cases[] = {{"no filter", {}, true},           {"top-p 0.95", {0, 0.95f, 0}, false},
                   {"top-p 0.95, kept", {0, 0.95f, 0}, true}, {"top-k 50", {50, 1, 0}, false},
                   {"top-k 50, kept", {50, 1, 0}, true}};
      for (const auto& c : cases)
        print(c.name, sweep_time(rows, [&](int64_t r) {
          teamtr_sample(TEAMTR_CPU, 0, (teamtr_address)x.at(r * V), dtype, 1, V, V, 1, 0, 1, 0, c.f.top_k, c.f.top_p, c.f.min_p, (uint64_t)r,
                        0, 0, (teamtr_address)&tokens[r], TEAMTR_I32, (teamtr_address)&lp[r],
                        c.kept ? (teamtr_address)&kept[r] : 0);
        }));
    }
}

int main(int argc, char** argv) {
  if (argc > 1 && !std::strcmp(argv[1], "bench")) return bench(), 0;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const bool quick = true;
#else
  const bool quick = false;
#endif
  teamtr_threads_set(2);
  test_philox();
  test_noise();
  test_distribution(quick);
  test_ties();
  test_independence();
  test_special();
  test_slow_rows(quick);
  test_errors();
  test_filters(quick);
  std::printf("sampling_test: %ld checks, %ld draws, %ld where rounding may decide, %ld failures\n", checks, draws,
              hairlines, failures);
  return failures != 0;
}
