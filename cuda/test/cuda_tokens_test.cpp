/*
 * The CUDA backend's work on per-token vectors against the CPU's, which native/test/token_kernels_test.cpp and the Java tests
 * hold against formulas written a second time; on device 0 of a CUDA build or on the host in lockstep.
 *   cuda_tokens_test            600 random batches
 *   cuda_tokens_test --small    40, for compute-sanitizer
 *
 * The batches have every ratio level, aggregation, KL term and kind of mask, some have NaNs and infinities, and bad message
 * bounds. The bits are the same in a second run, and, on the host, when threads run in descending order. The gradients of a
 * message alone, with the same denominators, have the same bits as well.
 */
#include <cmath>
#include <memory>
#include <random>
#include <string>

#include "checks.h"

using Floats = std::vector<float>;

static std::mt19937_64 rng(20);

static int64_t below(int64_t n) { return (int64_t)(rng() % (uint64_t)n); }
static bool one_in(int64_t n) { return below(n) == 0; }
template <class T> static T one_of(std::initializer_list<T> values) { return values.begin()[below(values.size())]; }
static float normal() {
  static std::normal_distribution<float> n;
  return n(rng);
}

/* What got and expected may differ by, and the largest part of it that was seen. */
struct Comparison {
  const char* what;
  double worst = 0;
  void near(double got, double expected, double allowed, const std::string& where) {
    const bool same = got == expected || (std::isnan(got) && std::isnan(expected));
    const double part = same ? 0 : std::fabs(got - expected) / allowed;
    if (std::isfinite(part) && part > worst) worst = part;
    if (part <= 1) checks++;
    else expect(false, std::string(what) + " " + where + ": " + std::to_string(got) + " for " + std::to_string(expected));
  }
};
static Comparison statistics{"statistic"}, gradients{"gradient"}, estimates{"sampled KL"}, advantages{"advantage"};

/* Two roundings to f32 of doubles that agree may be neighbours. */
static double neighbour(double x) { return 1.2e-7 * std::fabs(x); }

template <class T> static bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
template <class T> static bool all_nan(const std::vector<T>& v) {
  for (T x : v)
    if (!std::isnan(x)) return false;
  return true;
}

/* ---- a batch ---- */

struct Options {
  int32_t ratio_level, kl_term, aggregation, kl_aggregation;
  double eps_low, eps_high, dual_clip, beta, entropy_coef;
  int64_t total_tokens, total_messages;
  bool advantage_per_token, masked, has_kl, has_entropy, has_centred, wide_bounds;
  bool outputs[3]; /* gradients of log-probs, kl, entropy */
};

struct Numbers {
  Floats fresh, old, advantages, kl, entropy, centred;
  std::vector<uint8_t> mask;
  std::vector<int64_t> cu = {0};
  int64_t tokens() const { return (int64_t)fresh.size(); }
  int64_t messages() const { return (int64_t)cu.size() - 1; }
};

static Options random_options() {
  Options o;
  o.ratio_level = (int32_t)below(3);
  o.kl_term = (int32_t)below(6) - 1;
  o.aggregation = (int32_t)below(4);
  o.kl_aggregation = (int32_t)below(4);
  o.eps_low = one_of({0.0, 0.2, 1.0, (double)INFINITY});
  o.eps_high = one_of({0.0, 0.3, (double)INFINITY});
  o.dual_clip = one_of({1.5, 3.0, (double)INFINITY, (double)INFINITY});
  o.beta = one_of({0.0, 0.04, 2.0});
  o.entropy_coef = one_of({0.0, 0.01, -0.5});
  o.total_tokens = one_in(3) ? 1 + below(9000) : 0;
  o.total_messages = one_in(3) ? 1 + below(90) : 0;
  o.advantage_per_token = one_in(2);
  o.masked = one_in(2);
  o.has_kl = o.kl_term == TEAMTR_KL_EXACT || one_in(2);
  o.has_entropy = o.entropy_coef != 0 || one_in(2);
  o.has_centred = one_in(2);
  o.wide_bounds = one_in(2);
  const bool all = !one_in(4);
  for (bool& output : o.outputs) output = all || one_in(2);
  return o;
}

static Numbers random_numbers(const Options& o, bool special) {
  Numbers n;
  const int64_t messages = one_in(8) ? below(3) : below(60), longest = one_of({1, 7, 40, 40, 200, 1000});
  const int64_t huge = one_in(6) && messages > 0 ? below(messages) : -1, masked_share = one_of({1, 2, 5, 50});
  for (int64_t m = 0; m < messages; m++) {
    const int64_t length = m == huge ? 3000 + below(3000) : one_in(4) ? 0 : below(longest + 1);
    const float drift = one_in(5) ? 9 * normal() : 0.02f * normal(); /* some reach the clamp */
    const bool equal = one_in(6), poisoned = special && one_in(4);
    n.centred.push_back(one_in(9) ? 0 : normal());
    if (!o.advantage_per_token) n.advantages.push_back(one_in(9) ? 0 : poisoned && one_in(9) ? NAN : normal());
    for (int64_t i = 0; i < length; i++) {
      const float old = -2 + normal();
      n.old.push_back(poisoned && one_in(40) ? one_of({NAN, INFINITY, -INFINITY}) : old);
      n.fresh.push_back(equal ? n.old.back() : poisoned && one_in(40) ? -INFINITY : old + drift + 0.2f * normal());
      if (o.advantage_per_token) n.advantages.push_back(one_in(9) ? 0 : normal());
      n.kl.push_back(poisoned && one_in(40) ? INFINITY : std::fabs(normal()));
      n.entropy.push_back(poisoned && one_in(40) ? NAN : std::fabs(normal()));
      n.mask.push_back(!one_in(masked_share));
      if (!o.masked || n.mask.back()) continue;
      n.old.back() = n.fresh.back() = n.kl.back() = n.entropy.back() = NAN; /* not to be looked at */
      if (o.advantage_per_token) n.advantages.back() = NAN;
    }
    n.cu.push_back(n.tokens());
  }
  return n;
}

static Numbers message_of(const Numbers& n, const Options& o, int64_t m) {
  const auto part = [](const auto& v, int64_t begin, int64_t end) {
    return std::decay_t<decltype(v)>(v.begin() + begin, v.begin() + end);
  };
  const int64_t begin = n.cu[m], end = n.cu[m + 1];
  Numbers one;
  one.fresh = part(n.fresh, begin, end), one.old = part(n.old, begin, end), one.mask = part(n.mask, begin, end);
  one.kl = part(n.kl, begin, end), one.entropy = part(n.entropy, begin, end), one.centred = part(n.centred, m, m + 1);
  one.advantages = o.advantage_per_token ? part(n.advantages, begin, end) : part(n.advantages, m, m + 1);
  one.cu = {0, end - begin};
  return one;
}

struct Gradients {
  Floats of[3];
  std::vector<double> stats;
  bool operator==(const Gradients& o) const {
    return same_bits(of[0], o.of[0]) && same_bits(of[1], o.of[1]) && same_bits(of[2], o.of[2]) && same_bits(stats, o.stats);
  }
};

struct Sampled {
  Floats per_token, per_message;
  bool operator==(const Sampled& o) const {
    return same_bits(per_token, o.per_token) && same_bits(per_message, o.per_message);
  }
};

/* The numbers, on the host and on the device. */
struct Batch {
  int64_t tokens, messages;
  Mirrored<float> fresh, old, advantages, kl, entropy, centred;
  Mirrored<uint8_t> mask;
  Mirrored<int64_t> cu64;
  Mirrored<int32_t> cu32;

  explicit Batch(const Numbers& n)
      : tokens(n.tokens()), messages(n.messages()), fresh(n.fresh), old(n.old), advantages(n.advantages), kl(n.kl),
        entropy(n.entropy), centred(n.centred), mask(n.mask), cu64(n.cu),
        cu32(std::vector<int32_t>(n.cu.begin(), n.cu.end())) {}

  Gradients surrogate(const Options& o, bool device) {
    Mirrored<float> d0(tokens, -7), d1(tokens, -7), d2(tokens, -7);
    Mirrored<double> stats(TEAMTR_STATS, -7);
    const auto at = [device](const auto& v, bool given = true) {
      return !given ? 0 : device ? v.on_device() : v.on_host();
    };
    /* A host vector of no elements has no address, and an optional one is then as if it had not been given. */
    const int32_t status = teamtr_surrogate(
        device ? 0 : TEAMTR_CPU, 0, at(fresh), at(old), tokens, at(advantages), o.advantage_per_token,
        o.wide_bounds ? at(cu64) : at(cu32), o.wide_bounds ? TEAMTR_I64 : TEAMTR_I32, messages, at(mask, o.masked),
        at(kl, o.has_kl && tokens), at(entropy, o.has_entropy && tokens), at(centred, o.has_centred && messages), o.ratio_level,
        o.eps_low, o.eps_high, o.dual_clip, o.kl_term, o.beta, o.kl_aggregation, o.entropy_coef, o.aggregation, 64,
        o.total_tokens, o.total_messages, at(d0, o.outputs[0]), at(d1, o.outputs[1]), at(d2, o.outputs[2]), at(stats));
    if (device) {
      expect_status(status);
      for (Mirrored<float>* d : {&d0, &d1, &d2}) d->download();
      stats.download();
    } else {
      expect(status == TEAMTR_OK, teamtr_last_error());
    }
    return {{d0.host, d1.host, d2.host}, stats.host};
  }

  Sampled sampled_kl(const Options& o, int32_t estimator, bool with_tokens, bool with_messages, bool with_bounds, bool device) {
    Mirrored<float> per_token(tokens, -7), per_message(messages, -7);
    const auto at = [device](const auto& v, bool given = true) {
      return !given ? 0 : device ? v.on_device() : v.on_host();
    };
    const int32_t status = teamtr_sampled_kl(
        device ? 0 : TEAMTR_CPU, 0, estimator, at(old), at(fresh), tokens,
        o.wide_bounds ? at(cu64, with_bounds) : at(cu32, with_bounds), o.wide_bounds ? TEAMTR_I64 : TEAMTR_I32, messages,
        at(per_token, with_tokens), at(per_message, with_messages));
    if (device) {
      expect_status(status);
      per_token.download();
      per_message.download();
    } else {
      expect(status == TEAMTR_OK, teamtr_last_error());
    }
    return {per_token.host, per_message.host};
  }
};

/* ---- the cases ---- */

static void surrogate(const Options& o, Batch& b, const std::string& which) {
  const Gradients expected = b.surrogate(o, false), got = b.surrogate(o, true);
  /* Sums of terms with ratios up to exp(20), which may cancel: what may differ is 1e-13 of the terms' size. */
  double terms = 1;
  for (int stat : {TEAMTR_STAT_LOSS, TEAMTR_STAT_OBJECTIVE, TEAMTR_STAT_KL, TEAMTR_STAT_RATIO_MAX, TEAMTR_STAT_MONITOR_K3,
                   TEAMTR_STAT_MONITOR_MAX, TEAMTR_STAT_ZETA_CLIP, TEAMTR_STAT_ZETA_RATIO})
    if (std::isfinite(expected.stats[stat])) terms += std::fabs(expected.stats[stat]);
  for (int i = 0; i < TEAMTR_STATS; i++)
    statistics.near(got.stats[i], expected.stats[i], 1e-13 * terms, std::to_string(i) + which);
  for (int v = 0; v < 3; v++)
    for (int64_t u = 0; u < b.tokens; u++) {
      const double d = expected.of[v][u];
      gradients.near(got.of[v][u], d, neighbour(d) + 1e-13 * terms, std::to_string(v) + which);
    }
  for (bool backwards : {false, true}) {
    turn_backwards(backwards);
    expect(b.surrogate(o, true) == got, "the same bits" + which);
  }
  turn_backwards(false);
}

static void message_alone(Options o, const Numbers& n, Batch& b, const std::string& which) {
  o.total_tokens = 1000, o.total_messages = 10; /* else they are the batch's */
  const int64_t m = below(n.messages());
  const Gradients whole = b.surrogate(o, true), alone = Batch(message_of(n, o, m)).surrogate(o, true);
  for (int v = 0; v < 3; v++)
    expect(same_bits(alone.of[v], Floats(whole.of[v].begin() + n.cu[m], whole.of[v].begin() + n.cu[m + 1])),
           "a message alone" + which);
}

static void sampled_kl(const Options& o, const Numbers& n, Batch& b, const std::string& which) {
  const int32_t estimator = (int32_t)below(4);
  const bool with_tokens = !one_in(3), with_messages = !one_in(3), with_bounds = with_messages || one_in(2);
  const auto call = [&](bool device) { return b.sampled_kl(o, estimator, with_tokens, with_messages, with_bounds, device); };
  const Sampled expected = call(false), got = call(true);
  for (int64_t u = 0; u < b.tokens; u++)
    estimates.near(got.per_token[u], expected.per_token[u], neighbour(expected.per_token[u]), "of a token" + which);
  for (int64_t m = 0; m < b.messages; m++) {
    double terms = 0;
    for (int64_t u = n.cu[m]; u < n.cu[m + 1]; u++) terms += std::fabs((double)n.old[u] - n.fresh[u]);
    if (!std::isfinite(terms)) terms = 0;
    estimates.near(got.per_message[m], expected.per_message[m], neighbour(expected.per_message[m]) + 1e-13 * terms,
                   "of a message" + which);
  }
  for (bool backwards : {false, true}) {
    turn_backwards(backwards);
    expect(call(true) == got, "the same bits of sampled KL" + which);
  }
  turn_backwards(false);
}

static void group_advantages(bool special, const std::string& which) {
  const int64_t size = one_of<int64_t>({1, 2, 8, 16, 31, 32, 33, 100, 1000}), groups = below(40), count = size * groups;
  const double eps = one_of({0.0, 1e-8, 1.0}), clip = one_of({0.7, 5.0, (double)INFINITY});
  const bool normalise = !one_in(3);
  Floats numbers;
  for (int64_t g = 0; g < groups; g++) {
    const bool equal = one_in(5), poisoned = special && one_in(5);
    const float offset = 1000 * normal();
    for (int64_t i = 0; i < size; i++)
      numbers.push_back(poisoned && one_in(size) ? one_of({NAN, INFINITY, -INFINITY}) : equal ? offset : offset + normal());
  }
  Mirrored<float> expected(count), expected_centred(count), returns(numbers);
  expect(teamtr_group_advantages(TEAMTR_CPU, 0, returns.on_host(), count, size, eps, clip, normalise, expected.on_host(),
                                 expected_centred.on_host()) == TEAMTR_OK, "advantages on the CPU");
  /* 0, 1: apart, by either order of turns; 2: the advantages over the returns; 3: the centred over the returns. */
  for (int way = 0; way < 4; way++) {
    turn_backwards(way == 1);
    Mirrored<float> input(numbers), apart(count, -7), centred(count, -7);
    Mirrored<float>&a = way == 2 ? input : apart, &c = way == 3 ? input : centred;
    expect_status(teamtr_group_advantages(0, 0, input.on_device(), count, size, eps, clip, normalise, a.on_device(),
                                          c.on_device()));
    a.download();
    c.download();
    for (int64_t i = 0; i < count; i++) {
      /* A mean's rounding is 1e-16 of the returns' spread, which is 10; the spread of two may be a thousandth of it. */
      advantages.near(c.host[i], expected_centred.host[i], neighbour(expected_centred.host[i]) + 1e-14, "centred" + which);
      advantages.near(a.host[i], expected.host[i], neighbour(expected.host[i]) + 1e-12, std::to_string(way) + which);
    }
  }
  turn_backwards(false);
}

/* In each way that bounds can be wrong: the first, the last, one before its predecessor, one behind the end. */
static void bad_bounds(int way) {
  Options o = random_options();
  for (bool& output : o.outputs) output = true;
  Numbers n;
  while (n.messages() == 0) n = random_numbers(o, false);
  const int64_t at = 1 + below(n.messages());
  if (way == 0) n.cu[0] = one_of<int64_t>({1, -1, -1000000000});
  if (way == 1) n.cu.back() += one_of<int64_t>({1, -1, 1000000000});
  if (way == 2) n.cu[at] = one_of<int64_t>({-1, -2000000000});
  if (way == 3) n.cu[at] = one_of<int64_t>({n.tokens() + 1, 2000000000, INT64_MAX});
  Batch b(n);
  const Gradients g = b.surrogate(o, true);
  expect(all_nan(g.stats) && all_nan(g.of[0]) && all_nan(g.of[1]) && all_nan(g.of[2]), "bad bounds of a surrogate");
  for (bool with_messages : {true, false}) {
    const Sampled s = b.sampled_kl(o, TEAMTR_K3, true, with_messages, true, true);
    expect(all_nan(s.per_token) && (!with_messages || all_nan(s.per_message)), "bad bounds of sampled KL");
  }
}

int main(int count, char** arguments) {
  if (teamtr_cuda_count() == 0) {
    std::printf("no device: %s\n", teamtr_last_error());
    return 1;
  }
  const int batches = count > 1 && std::string(arguments[1]) == "--small" ? 40 : 600;
  for (int i = 0; i < batches; i++) {
    const std::string which = " in batch " + std::to_string(i);
    const bool special = i % 4 == 3;
    const Options o = random_options();
    const Numbers n = random_numbers(o, special);
    Batch b(n);
    surrogate(o, b, which);
    if (n.messages() > 0) message_alone(o, n, b, which);
    sampled_kl(o, n, b, which);
    group_advantages(special, which);
    bad_bounds(i % 4);
  }
  for (const Comparison* c : {&statistics, &gradients, &estimates, &advantages})
    std::printf("%s: at most %.2g of what may differ\n", c->what, c->worst);
  std::printf("cuda_tokens_test: %lld checks, %lld failed\n", (long long)checks, (long long)failures);
  return failures != 0;
}
