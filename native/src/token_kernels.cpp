/*
 * Work on per-token vectors: the trust-region surrogate (Eq. 10) with its gradient and statistics, the sampled
 * KL (Eq. 11), group-normalised advantages (Eq. 9).
 *
 * Memory: the surrogate counts once (mask and targets only: the denominators), then takes each message in
 * turn: a survey of its tokens (message ratio, monitors), the terms of the objective, the gradient. A message
 * fits the cache, so each log-prob comes from memory once. sampled_kl reads once. A group of returns is read
 * three times (mean, variance, result). Nothing is allocated.
 *
 * Contract: arguments are checked by the caller, contents are not. Sums are doubles in token order on the
 * calling thread, so the bits depend on the numbers alone. A token that does not count is never looked at. NaN in
 * a token that counts reaches every sum it belongs to and the gradients of what shares its ratio; it is never
 * dropped by a comparison: clamp, lesser and greater below keep it.
 */
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels.h"

namespace teamtr {
namespace {

constexpr double INF = std::numeric_limits<double>::infinity();
constexpr double NOT_GIVEN = std::numeric_limits<double>::quiet_NaN();
constexpr double LOG_RATIO_LIMIT = 20.0;

inline double clamp(double x, double low, double high) { return x < low ? low : x > high ? high : x; }
inline double lesser(double a, double b) { return b < a || std::isnan(b) ? b : a; }
inline double greater(double a, double b) { return b > a || std::isnan(b) ? b : a; }
inline double mean(double sum, int64_t count) { return count > 0 ? sum / static_cast<double>(count) : 0.0; }

/* ---- estimators of KL(old || new) ---- */

struct Estimate {
  double value;
  double slope; /* d value / d log new */
};

/* d = log old - log new. */
inline Estimate estimate(int32_t estimator, double d) {
  switch (estimator) {
    case TEAMTR_K1: return {d, -1.0};
    case TEAMTR_K2: return {0.5 * d * d, -d};
    case TEAMTR_K3: {
      const double growth = std::expm1(-d); /* new / old - 1, without cancelling at small d */
      /* d = -inf: the limit is +inf, not inf - inf. Rounding alone could make the sum negative. */
      return {std::isinf(growth) ? growth : greater(growth + d, 0.0), growth};
    }
    default: return {std::fabs(d), d > 0 ? -1.0 : d < 0 ? 1.0 : d}; /* TEAMTR_ABS; slope 0 at 0 */
  }
}

/* ---- the clipped term ---- */

struct Ratio {
  double w;
  bool clamped; /* log w was outside the limit: w does not move with it */
};

inline Ratio ratio(double log_w) {
  return {std::exp(clamp(log_w, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)), std::fabs(log_w) > LOG_RATIO_LIMIT};
}

/* What binds, in the order of TEAMTR_STAT_CLIP_LOW, _HIGH, _DUAL. */
enum Bound { LOW = 0, HIGH = 1, DUAL = 2, BOUNDS = 3, FREE = BOUNDS };

struct Term {
  double value; /* min(w A, clip(w) A), or with A < 0 the larger of that and dual A */
  double slope; /* d value / d log w */
  Bound bound;
};

/* Which side binds is read off w, not off the products: no infinite bound is ever multiplied, w = bound is
 * still free (the gradient of torch.min over torch.clamp there), and the shares match the gradients. */
inline Term clipped(const Ratio& r, double advantage, double low, double high, double dual) {
  if (advantage > 0 && r.w > high) return {high * advantage, 0.0, HIGH};
  if (advantage < 0 && r.w < low) return {low * advantage, 0.0, LOW};
  if (advantage < 0 && r.w > dual) return {dual * advantage, 0.0, DUAL};
  const double value = r.w * advantage;
  return {value, r.clamped ? 0.0 : value, FREE};
}

/* ---- which tokens count ---- */

inline bool counts(const Surrogate& a, int64_t u) {
  return (!a.mask || a.mask[u] != 0) && (!a.targets || a.targets[u] != TEAMTR_IGNORE);
}

template <class F>
inline void each_counting(const Surrogate& a, int64_t begin, int64_t end, F&& f) {
  for (int64_t u = begin; u < end; ++u) {
    if (counts(a, u)) f(u);
  }
}

/* log old - log new. */
inline double gap(const Surrogate& a, int64_t u) {
  return static_cast<double>(a.log_probs_old[u]) - static_cast<double>(a.log_probs_new[u]);
}

/* ---- the surrogate ---- */

/* One message: its tokens that count, summed. */
struct Message {
  int64_t index = 0, begin = 0, end = 0;
  int64_t tokens = 0;
  double k1 = 0, k3 = 0, exact = 0;
  double advantage = 0; /* the message's own, or the mean over its tokens that count */
};

class SurrogatePass {
 public:
  explicit SurrogatePass(const Surrogate& arguments)
      : a(arguments), low(1.0 - a.eps_low), high(1.0 + a.eps_high) {}

  void run() {
    count();
    /* From here on only tokens that count are visited; the others' gradients are these zeros. */
    for (float* gradient : {a.d_log_probs, a.d_kl, a.d_entropy}) {
      if (gradient) std::fill_n(gradient, a.tokens, 0.0f);
    }
    for (int64_t m = 0; m < a.messages; ++m) {
      const Message message = survey(m);
      if (message.tokens == 0) continue;
      monitor(message);
      const double weight = token_weight(a.aggregation, message);
      const double kl_weight = token_weight(a.kl_aggregation, message);
      if (a.ratio_level == TEAMTR_RATIO_TOKEN) {
        each_counting(a, message.begin, message.end, [&](int64_t u) {
          span(u, u + 1, message.index, -gap(a, u), 1.0, weight, kl_weight);
        });
      } else {
        const double scale =
            a.ratio_level == TEAMTR_RATIO_MESSAGE_MEAN ? 1.0 / static_cast<double>(message.tokens) : 1.0;
        span(message.begin, message.end, message.index, -message.k1 * scale, scale, weight, kl_weight);
      }
    }
    report();
  }

 private:
  /* This call's own counts: the denominators, unless the caller knows the whole batch's. */
  void count() {
    for (int64_t m = 0; m < a.messages; ++m) {
      const int64_t before = tokens;
      each_counting(a, a.cu_seqlens[m], a.cu_seqlens[m + 1], [&](int64_t) { ++tokens; });
      messages += tokens > before;
    }
  }

  /* The a_u of agg(o) = sum_u a_u o_u, the same for every token of a message. */
  double token_weight(int32_t aggregation, const Message& message) const {
    const double all_tokens = static_cast<double>(a.total_tokens > 0 ? a.total_tokens : tokens);
    const double all_messages = static_cast<double>(a.total_messages > 0 ? a.total_messages : messages);
    double denominator = all_tokens; /* TEAMTR_TOKEN_MEAN */
    if (aggregation == TEAMTR_SEQ_MEAN_TOKEN_SUM) denominator = all_messages;
    if (aggregation == TEAMTR_SEQ_MEAN_TOKEN_MEAN) denominator = all_messages * static_cast<double>(message.tokens);
    if (aggregation == TEAMTR_FIXED_LENGTH) denominator = all_messages * a.fixed_length;
    return 1.0 / denominator; /* `message` counts, so this is no division by 0 */
  }

  double advantage(int64_t message, int64_t u) const { return a.advantages[a.advantage_per_token ? u : message]; }

  Message survey(int64_t m) const {
    Message s;
    s.index = m;
    s.begin = a.cu_seqlens[m];
    s.end = a.cu_seqlens[m + 1];
    double advantages = 0;
    each_counting(a, s.begin, s.end, [&](int64_t u) {
      const double d = gap(a, u);
      ++s.tokens;
      s.k1 += d;
      s.k3 += estimate(TEAMTR_K3, d).value;
      if (a.kl) s.exact += a.kl[u];
      if (a.advantage_per_token) advantages += a.advantages[u];
    });
    s.advantage = a.advantage_per_token ? mean(advantages, s.tokens) : static_cast<double>(a.advantages[m]);
    return s;
  }

  /* Eq. 11 and zeta: always on whole messages and the message product, whatever ratio the loss clips. */
  void monitor(const Message& m) {
    monitor_k1 += m.k1;
    monitor_k3 += m.k3;
    monitor_exact += m.exact;
    monitor_max = greater(monitor_max, m.k1);

    const Ratio product = ratio(-m.k1);
    const double weighted = product.w * m.advantage;
    product_sum += product.w;
    weighted_sum += weighted;
    clip_bias += weighted - clipped(product, m.advantage, low, high, INF).value; /* exactly 0 where free */
    advantage_max = greater(advantage_max, std::fabs(m.advantage));
    if (a.centred_returns) {
      const double centred = a.centred_returns[m.index];
      centred_sum += product.w * centred;
      centred_squares += centred * centred;
    }
  }

  /* The tokens [begin, end) that share one ratio: a message, or one token. log w = log_w; its derivative by
   * each of their new log-probs is `scale`. */
  void span(int64_t begin, int64_t end, int64_t message, double log_w, double scale, double weight,
            double kl_weight) {
    const Ratio r = ratio(log_w);
    ++ratios;
    ratio_sum += r.w;
    ratio_squares += r.w * r.w;
    ratio_min = lesser(ratio_min, r.w);
    ratio_max = greater(ratio_max, r.w);

    double slope = 0; /* d objective / d log w */
    bool new_pair = true;
    each_counting(a, begin, end, [&](int64_t u) {
      const Term term = clipped(r, advantage(message, u), low, high, a.dual_clip);
      objective += weight * term.value;
      slope += weight * term.slope;
      /* Clip shares are over distinct (ratio, advantage) pairs: messages for a message's ratio with a message's
       * advantage, else tokens. */
      if (new_pair) {
        ++pairs;
        if (term.bound != FREE) ++bound[term.bound];
      }
      new_pair = a.advantage_per_token;
    });

    each_counting(a, begin, end, [&](int64_t u) {
      Estimate kl_token = {0.0, 0.0};
      if (a.kl_term == TEAMTR_KL_EXACT) kl_token.value = a.kl[u];
      else if (a.kl_term != TEAMTR_KL_NONE) kl_token = estimate(a.kl_term, gap(a, u));
      kl += kl_weight * kl_token.value;
      if (a.entropy) entropy += weight * a.entropy[u];

      /* beta = 0 must not meet an infinite slope. */
      const double pull = a.beta != 0 ? a.beta * kl_weight * kl_token.slope : 0.0;
      if (a.d_log_probs) a.d_log_probs[u] = static_cast<float>(pull - slope * scale);
      if (a.d_kl && a.kl_term == TEAMTR_KL_EXACT) a.d_kl[u] = static_cast<float>(a.beta * kl_weight);
      if (a.d_entropy) a.d_entropy[u] = static_cast<float>(0.0 - a.entropy_coef * weight);
    });
  }

  void report() const {
    double loss = 0.0 - objective; /* not -0 when nothing counts */
    if (a.beta != 0) loss += a.beta * kl;
    if (a.entropy_coef != 0) loss -= a.entropy_coef * entropy;

    double* s = a.stats;
    s[TEAMTR_STAT_LOSS] = loss;
    s[TEAMTR_STAT_OBJECTIVE] = objective;
    s[TEAMTR_STAT_KL] = kl;
    s[TEAMTR_STAT_ENTROPY] = a.entropy ? entropy : NOT_GIVEN;
    s[TEAMTR_STAT_MESSAGES] = static_cast<double>(messages);
    s[TEAMTR_STAT_TOKENS] = static_cast<double>(tokens);
    for (int b = LOW; b < BOUNDS; ++b) {
      s[TEAMTR_STAT_CLIP_LOW + b] = mean(static_cast<double>(bound[b]), pairs);
    }
    /* The rest describes this call: its means are over its own counts, and are 0 when nothing counts. */
    const bool any = messages > 0;
    s[TEAMTR_STAT_RATIO_MEAN] = mean(ratio_sum, ratios);
    s[TEAMTR_STAT_RATIO_MIN] = any ? ratio_min : 0.0;
    s[TEAMTR_STAT_RATIO_MAX] = any ? ratio_max : 0.0;
    s[TEAMTR_STAT_ESS] = any ? mean(ratio_sum * ratio_sum / ratio_squares, ratios) : 0.0;
    s[TEAMTR_STAT_MONITOR_K1] = mean(monitor_k1, messages);
    s[TEAMTR_STAT_MONITOR_K3] = mean(monitor_k3, messages);
    s[TEAMTR_STAT_MONITOR_EXACT] = a.kl ? mean(monitor_exact, messages) : NOT_GIVEN;
    s[TEAMTR_STAT_MONITOR_MAX] = any ? monitor_max : 0.0;

    s[TEAMTR_STAT_ZETA_CLIP] = std::fabs(mean(clip_bias, messages));
    s[TEAMTR_STAT_ZETA_RATIO] = std::fabs(mean(product_sum, messages) - 1.0) * advantage_max;
    const double spread = std::sqrt(mean(centred_squares, messages));
    /* No spread: every A0 is 0, and so is their normalised mean. */
    const double normalised = spread == 0 ? 0.0 : mean(centred_sum, messages) / spread;
    s[TEAMTR_STAT_ZETA_NORM] =
        a.centred_returns ? std::fabs(mean(weighted_sum, messages) - normalised) : NOT_GIVEN;
  }

  const Surrogate& a;
  const double low, high; /* -inf and +inf where there is no clip */

  int64_t tokens = 0, messages = 0;
  double objective = 0, kl = 0, entropy = 0;
  int64_t ratios = 0, pairs = 0, bound[BOUNDS] = {};
  double ratio_sum = 0, ratio_squares = 0, ratio_min = INF, ratio_max = -INF;
  double monitor_k1 = 0, monitor_k3 = 0, monitor_exact = 0, monitor_max = -INF;
  double product_sum = 0, weighted_sum = 0, clip_bias = 0, advantage_max = 0;
  double centred_sum = 0, centred_squares = 0;
};

}  // namespace

void surrogate(const Surrogate& a) { SurrogatePass(a).run(); }

void sampled_kl(int32_t estimator, const float* log_probs_old, const float* log_probs_new, int64_t tokens,
                Ids cu_seqlens, int64_t messages, float* per_token, float* per_message) {
  const auto sum = [&](int64_t begin, int64_t end) {
    double total = 0;
    for (int64_t u = begin; u < end; ++u) {
      const double d = static_cast<double>(log_probs_old[u]) - static_cast<double>(log_probs_new[u]);
      const double value = estimate(estimator, d).value;
      if (per_token) per_token[u] = static_cast<float>(value);
      total += value;
    }
    return total;
  };
  if (!per_message || !cu_seqlens) {
    sum(0, tokens);
    return;
  }
  for (int64_t m = 0; m < messages; ++m) {
    per_message[m] = static_cast<float>(sum(cu_seqlens[m], cu_seqlens[m + 1]));
  }
}

void group_advantages(const float* returns, int64_t count, int64_t group_size, double eps_norm, double clip,
                      bool normalise, float* advantages, float* centred) {
  const double size = static_cast<double>(group_size);
  for (int64_t g = 0; g < count; g += group_size) {
    /* Returns are taken from the group's first: equal ones are then 0, and their mean is, without rounding. */
    const double origin = returns[g];
    const auto shifted = [&](int64_t i) { return static_cast<double>(returns[i]) - origin; };

    double sum = 0;
    for (int64_t i = g; i < g + group_size; ++i) sum += shifted(i);
    const double mu = std::isfinite(sum) ? sum / size : NOT_GIVEN; /* one infinite return, no group */

    double squares = 0;
    for (int64_t i = g; i < g + group_size; ++i) squares += (shifted(i) - mu) * (shifted(i) - mu);
    const double sigma = normalise ? std::sqrt(squares / size + eps_norm) : 1.0;

    /* Reads before it writes, so either result may lie over the returns. */
    for (int64_t i = g; i < g + group_size; ++i) {
      const double residual = shifted(i) - mu;
      /* sigma = 0: an all-equal group and eps_norm = 0. */
      const double advantage = sigma == 0 ? 0.0 : residual / sigma;
      if (centred) centred[i] = static_cast<float>(residual);
      advantages[i] = static_cast<float>(clamp(advantage, -clip, clip));
    }
  }
}

}  // namespace teamtr
