/*
 * The mathematics of the per-token work, written once for the CPU and for CUDA: estimators of the KL (Eq. 11), the
 * trust-region surrogate (Eq. 10) with its gradient and statistics, group-normalised advantages (Eq. 9).
 *
 * A message, or a group of returns, is the work of a team: one thread on the CPU, the lanes of a warp on a GPU. Lane l of
 * n has the tokens l, l + n, l + 2n, ... of the message, and sums over lanes are the team's. A Team is
 *   kLanes, kAtOnce            its size; how many tokens a lane loads before it uses the first
 *   lane(), leads()            the caller's number in it; whether that is 0
 *   sum(x)                     over the lanes, the same in all of them
 *   leaders(x)                 lane 0's x
 *
 * Contract: sums are doubles in an order that only the message's length and the size of the team decide. A token that does
 * not count is never looked at. NaN in a token that counts reaches every sum it belongs to and the gradients of what shares
 * its ratio; it is never dropped by a comparison: clamp, lesser and greater below keep it.
 */
#ifndef TEAMTR_SURROGATE_H
#define TEAMTR_SURROGATE_H

#include "kernels.h"

/* For loops over the tokens that a lane holds in registers, which must not become an array in memory. */
#if defined(__CUDA_ARCH__)
#define TEAMTR_UNROLL _Pragma("unroll")
#else
#define TEAMTR_UNROLL
#endif

namespace teamtr {

constexpr double LOG_RATIO_LIMIT = 20.0;

TEAMTR_HD inline double clamp(double x, double low, double high) { return x < low ? low : x > high ? high : x; }
TEAMTR_HD inline double lesser(double a, double b) { return b < a || b != b ? b : a; }
TEAMTR_HD inline double greater(double a, double b) { return b > a || b != b ? b : a; }
TEAMTR_HD inline double mean(double sum, int64_t count) { return count > 0 ? sum / static_cast<double>(count) : 0.0; }

/* ---- a team's walk ---- */

/* use(u, counts(u), token) for the lane's share of [begin, end), in ascending order; token is load(u) where u counts, and
 * nothing else elsewhere. Loads stand before their uses, so that kAtOnce of them are under way at once. */
template <class Team, class Counts, class Load, class Use>
TEAMTR_HD inline void each(Team team, int64_t begin, int64_t end, Counts&& counts, Load&& load, Use&& use) {
  for (int64_t first = begin + team.lane(); first < end; first += Team::kLanes * Team::kAtOnce) {
    bool counting[Team::kAtOnce];
    decltype(load(first)) token[Team::kAtOnce] = {};
    TEAMTR_UNROLL
    for (int k = 0; k < Team::kAtOnce; ++k) {
      const int64_t u = first + k * Team::kLanes;
      counting[k] = u < end && counts(u);
    }
    TEAMTR_UNROLL
    for (int k = 0; k < Team::kAtOnce; ++k) {
      if (counting[k]) token[k] = load(first + k * Team::kLanes);
    }
    TEAMTR_UNROLL
    for (int k = 0; k < Team::kAtOnce; ++k) {
      const int64_t u = first + k * Team::kLanes;
      if (u < end) use(u, counting[k], token[k]);
    }
  }
}

/* ---- estimators of KL(old || new) ---- */

struct Estimate {
  double value;
  double slope; /* d value / d log new */
};

/* d = log old - log new. */
TEAMTR_HD inline Estimate estimate(int32_t estimator, double d) {
  switch (estimator) {
    case TEAMTR_K1: return {d, -1.0};
    case TEAMTR_K2: return {0.5 * d * d, -d};
    case TEAMTR_K3: {
      const double growth = expm1(-d); /* new / old - 1, without cancelling at small d */
      /* d = -inf: the limit is +inf, not inf - inf. Rounding alone could make the sum negative. */
      return {growth == INFINITY ? growth : greater(growth + d, 0.0), growth};
    }
    default: return {fabs(d), d > 0 ? -1.0 : d < 0 ? 1.0 : d}; /* TEAMTR_ABS; slope 0 at 0 */
  }
}

/* Sums the estimates of a message, and writes each where per_token is given. */
template <class Team>
TEAMTR_HD inline double sum_of_estimates(int32_t estimator, const float* log_probs_old, const float* log_probs_new,
                                         int64_t begin, int64_t end, float* per_token, Team team) {
  struct Pair {
    float old, fresh;
  };
  double sum = 0;
  each(
      team, begin, end, [](int64_t) { return true; }, [&](int64_t u) { return Pair{log_probs_old[u], log_probs_new[u]}; },
      [&](int64_t u, bool, const Pair& pair) {
        const double value = estimate(estimator, static_cast<double>(pair.old) - static_cast<double>(pair.fresh)).value;
        if (per_token) per_token[u] = static_cast<float>(value);
        sum += value;
      });
  return team.sum(sum);
}

/* ---- the clipped term ---- */

struct Ratio {
  double w;
  bool clamped; /* log w was outside the limit: w does not move with it */
};

TEAMTR_HD inline Ratio ratio(double log_w) {
  return {exp(clamp(log_w, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)), fabs(log_w) > LOG_RATIO_LIMIT};
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
TEAMTR_HD inline Term clipped(const Surrogate& a, const Ratio& r, double advantage, double dual) {
  const double low = 1.0 - a.eps_low, high = 1.0 + a.eps_high; /* -inf and +inf where there is no clip */
  if (advantage > 0 && r.w > high) return {high * advantage, 0.0, HIGH};
  if (advantage < 0 && r.w < low) return {low * advantage, 0.0, LOW};
  if (advantage < 0 && r.w > dual) return {dual * advantage, 0.0, DUAL};
  const double value = r.w * advantage;
  return {value, r.clamped ? 0.0 : value, FREE};
}

/* ---- the surrogate: sums ---- */

/* A call's own counts: the denominators, unless the caller knows the whole batch's. */
struct Counted {
  int64_t tokens = 0, messages = 0;
};

/* One message: its tokens that count, summed. */
struct Message {
  int64_t index, begin, end;
  int64_t tokens;
  double k1, k3, exact;
  double advantage; /* the message's own, or the mean over its tokens that count */
};

/* What tokens add to the statistics. */
struct TokenSums {
  double objective = 0, kl = 0, entropy = 0;
  double ratio_sum = 0, ratio_squares = 0, ratio_min = INFINITY, ratio_max = -INFINITY;
  int64_t bound[BOUNDS] = {};

  TEAMTR_HD void add_ratio(double w) {
    ratio_sum += w;
    ratio_squares += w * w;
    ratio_min = lesser(ratio_min, w);
    ratio_max = greater(ratio_max, w);
  }

  TEAMTR_HD void add_bound(Bound b) { /* no bound[b]: an index that varies would put it into memory */
    bound[LOW] += b == LOW;
    bound[HIGH] += b == HIGH;
    bound[DUAL] += b == DUAL;
  }

  TEAMTR_HD void add(const TokenSums& o) {
    objective += o.objective;
    kl += o.kl;
    entropy += o.entropy;
    ratio_sum += o.ratio_sum;
    ratio_squares += o.ratio_squares;
    ratio_min = lesser(ratio_min, o.ratio_min);
    ratio_max = greater(ratio_max, o.ratio_max);
    for (int b = LOW; b < BOUNDS; ++b) bound[b] += o.bound[b];
  }
};

/* What messages add: Eq. 11 and zeta, always on whole messages and the message product, whatever ratio the loss clips. */
struct MessageSums {
  double k1 = 0, k3 = 0, exact = 0, k1_max = -INFINITY;
  double product = 0, weighted = 0, clip_bias = 0, advantage_max = 0;
  double centred = 0, centred_squares = 0;

  TEAMTR_HD void add(const Surrogate& a, const Message& m) {
    k1 += m.k1;
    k3 += m.k3;
    exact += m.exact;
    k1_max = greater(k1_max, m.k1);

    const Ratio r = ratio(-m.k1);
    const double w_advantage = r.w * m.advantage;
    product += r.w;
    weighted += w_advantage;
    clip_bias += w_advantage - clipped(a, r, m.advantage, INFINITY).value; /* exactly 0 where free */
    advantage_max = greater(advantage_max, fabs(m.advantage));
    if (a.centred_returns) {
      const double c = a.centred_returns[m.index];
      centred += r.w * c;
      centred_squares += c * c;
    }
  }

  TEAMTR_HD void add(const MessageSums& o) {
    k1 += o.k1;
    k3 += o.k3;
    exact += o.exact;
    k1_max = greater(k1_max, o.k1_max);
    product += o.product;
    weighted += o.weighted;
    clip_bias += o.clip_bias;
    advantage_max = greater(advantage_max, o.advantage_max);
    centred += o.centred;
    centred_squares += o.centred_squares;
  }
};

TEAMTR_HD inline void report(const Surrogate& a, const Counted& counted, const TokenSums& t, const MessageSums& m) {
  double loss = 0.0 - t.objective; /* not -0 when nothing counts */
  if (a.beta != 0) loss += a.beta * t.kl;
  if (a.entropy_coef != 0) loss -= a.entropy_coef * t.entropy;

  double* s = a.stats;
  s[TEAMTR_STAT_LOSS] = loss;
  s[TEAMTR_STAT_OBJECTIVE] = t.objective;
  s[TEAMTR_STAT_KL] = t.kl;
  s[TEAMTR_STAT_ENTROPY] = a.entropy ? t.entropy : NAN;
  s[TEAMTR_STAT_MESSAGES] = static_cast<double>(counted.messages);
  s[TEAMTR_STAT_TOKENS] = static_cast<double>(counted.tokens);
  /* Clip shares are over distinct (ratio, advantage) pairs: messages for a message's ratio with a message's
   * advantage, else tokens. */
  const int64_t ratios = a.ratio_level == TEAMTR_RATIO_TOKEN ? counted.tokens : counted.messages;
  const int64_t pairs = a.advantage_per_token ? counted.tokens : ratios;
  for (int b = LOW; b < BOUNDS; ++b) {
    s[TEAMTR_STAT_CLIP_LOW + b] = mean(static_cast<double>(t.bound[b]), pairs);
  }
  /* The rest describes this call: its means are over its own counts, and are 0 when nothing counts. */
  const bool any = counted.messages > 0;
  s[TEAMTR_STAT_RATIO_MEAN] = mean(t.ratio_sum, ratios);
  s[TEAMTR_STAT_RATIO_MIN] = any ? t.ratio_min : 0.0;
  s[TEAMTR_STAT_RATIO_MAX] = any ? t.ratio_max : 0.0;
  s[TEAMTR_STAT_ESS] = any ? mean(t.ratio_sum * t.ratio_sum / t.ratio_squares, ratios) : 0.0;
  s[TEAMTR_STAT_MONITOR_K1] = mean(m.k1, counted.messages);
  s[TEAMTR_STAT_MONITOR_K3] = mean(m.k3, counted.messages);
  s[TEAMTR_STAT_MONITOR_EXACT] = a.kl ? mean(m.exact, counted.messages) : NAN;
  s[TEAMTR_STAT_MONITOR_MAX] = any ? m.k1_max : 0.0;

  s[TEAMTR_STAT_ZETA_CLIP] = fabs(mean(m.clip_bias, counted.messages));
  s[TEAMTR_STAT_ZETA_RATIO] = fabs(mean(m.product, counted.messages) - 1.0) * m.advantage_max;
  const double spread = sqrt(mean(m.centred_squares, counted.messages));
  /* No spread: every A0 is 0, and so is their normalised mean. */
  const double normalised = spread == 0 ? 0.0 : mean(m.centred, counted.messages) / spread;
  s[TEAMTR_STAT_ZETA_NORM] = a.centred_returns ? fabs(mean(m.weighted, counted.messages) - normalised) : NAN;
}

/* ---- the surrogate: one message ---- */

struct Token {
  float fresh, old, advantage, kl, entropy;
  TEAMTR_HD double gap() const { return static_cast<double>(old) - static_cast<double>(fresh); } /* log old - log new */
};

/* use(u, whether it counts, token) for the lane's share of a message. */
template <class Team, class Use>
TEAMTR_HD inline void each_token(const Surrogate& a, int64_t message, int64_t begin, int64_t end, Team team, Use&& use) {
  each(
      team, begin, end,
      [&](int64_t u) { return (!a.mask || a.mask[u] != 0) && (!a.targets || a.targets[u] != TEAMTR_IGNORE); },
      [&](int64_t u) { /* what a use does not look at, the compiler does not load */
        return Token{a.log_probs_new[u], a.log_probs_old[u], a.advantages[a.advantage_per_token ? u : message],
                     a.kl ? a.kl[u] : 0.0f, a.entropy ? a.entropy[u] : 0.0f};
      },
      use);
}

/* Adds a message's tokens that count. */
template <class Team> TEAMTR_HD inline void count_message(const Surrogate& a, int64_t m, Team team, Counted* counted) {
  const int64_t begin = a.cu_seqlens[m], end = a.cu_seqlens[m + 1];
  int64_t tokens = 0;
  each_token(a, m, begin, end, team, [&](int64_t, bool counts, const Token&) { tokens += counts; });
  tokens = team.sum(tokens);
  counted->tokens += tokens;
  counted->messages += tokens > 0;
}

template <class Team> TEAMTR_HD inline Message survey(const Surrogate& a, int64_t m, Team team) {
  Message s = {m, a.cu_seqlens[m], a.cu_seqlens[m + 1], 0, 0, 0, 0, 0};
  double advantages = 0;
  each_token(a, m, s.begin, s.end, team, [&](int64_t, bool counts, const Token& t) {
    if (!counts) return;
    const double d = t.gap();
    ++s.tokens;
    s.k1 += d;
    s.k3 += estimate(TEAMTR_K3, d).value;
    if (a.kl) s.exact += t.kl;
    if (a.advantage_per_token) advantages += t.advantage;
  });
  s.tokens = team.sum(s.tokens);
  s.k1 = team.sum(s.k1);
  s.k3 = team.sum(s.k3);
  if (a.kl) s.exact = team.sum(s.exact);
  s.advantage = a.advantage_per_token ? mean(team.sum(advantages), s.tokens) : static_cast<double>(a.advantages[m]);
  return s;
}

/* The a_u of agg(o) = sum_u a_u o_u, the same for every token of a message. Only used where one counts: no division by 0. */
TEAMTR_HD inline double token_weight(const Surrogate& a, int32_t aggregation, const Counted& counted, int64_t tokens) {
  const double all_tokens = static_cast<double>(a.total_tokens > 0 ? a.total_tokens : counted.tokens);
  const double all_messages = static_cast<double>(a.total_messages > 0 ? a.total_messages : counted.messages);
  double denominator = all_tokens; /* TEAMTR_TOKEN_MEAN */
  if (aggregation == TEAMTR_SEQ_MEAN_TOKEN_SUM) denominator = all_messages;
  if (aggregation == TEAMTR_SEQ_MEAN_TOKEN_MEAN) denominator = all_messages * static_cast<double>(tokens);
  if (aggregation == TEAMTR_FIXED_LENGTH) denominator = all_messages * a.fixed_length;
  return 1.0 / denominator;
}

/* A message's part of the sums, and its gradients. token_sums are the lane's own, message_sums the leader's. */
template <class Team>
TEAMTR_HD inline void take_message(const Surrogate& a, const Counted& counted, int64_t m, Team team, TokenSums* token_sums,
                                   MessageSums* message_sums) {
  const Message message = survey(a, m, team);
  if (message.tokens > 0 && team.leads()) message_sums->add(a, message);
  const double weight = token_weight(a, a.aggregation, counted, message.tokens);
  const double kl_weight = token_weight(a, a.kl_aggregation, counted, message.tokens);
  const bool ratio_per_token = a.ratio_level == TEAMTR_RATIO_TOKEN;

  double message_slope = 0; /* d objective / d log w */
  double scale = 1;         /* d log w / d log new, for each token */
  if (!ratio_per_token && message.tokens > 0) {
    if (a.ratio_level == TEAMTR_RATIO_MESSAGE_MEAN) scale = 1.0 / static_cast<double>(message.tokens);
    const Ratio r = ratio(-message.k1 * scale);
    if (team.leads()) {
      token_sums->add_ratio(r.w);
      if (!a.advantage_per_token) token_sums->add_bound(clipped(a, r, message.advantage, a.dual_clip).bound);
    }
    each_token(a, m, message.begin, message.end, team, [&](int64_t, bool counts, const Token& t) {
      if (!counts) return;
      const Term term = clipped(a, r, t.advantage, a.dual_clip);
      token_sums->objective += weight * term.value;
      message_slope += weight * term.slope;
      if (a.advantage_per_token) token_sums->add_bound(term.bound);
    });
    message_slope = team.sum(message_slope);
  }

  each_token(a, m, message.begin, message.end, team, [&](int64_t u, bool counts, const Token& t) {
    float d_log_prob = 0, d_kl = 0, d_entropy = 0;
    if (counts) {
      double slope = message_slope;
      if (ratio_per_token) {
        const Ratio r = ratio(-t.gap());
        const Term term = clipped(a, r, t.advantage, a.dual_clip);
        token_sums->add_ratio(r.w);
        token_sums->add_bound(term.bound);
        token_sums->objective += weight * term.value;
        slope += weight * term.slope;
      }
      Estimate kl = {0.0, 0.0};
      if (a.kl_term == TEAMTR_KL_EXACT) kl.value = t.kl;
      else if (a.kl_term != TEAMTR_KL_NONE) kl = estimate(a.kl_term, t.gap());
      token_sums->kl += kl_weight * kl.value;
      if (a.entropy) token_sums->entropy += weight * t.entropy;

      /* beta = 0 must not meet an infinite slope. */
      const double pull = a.beta != 0 ? a.beta * kl_weight * kl.slope : 0.0;
      d_log_prob = static_cast<float>(pull - slope * scale);
      if (a.kl_term == TEAMTR_KL_EXACT) d_kl = static_cast<float>(a.beta * kl_weight);
      d_entropy = static_cast<float>(0.0 - a.entropy_coef * weight);
    }
    if (a.d_log_probs) a.d_log_probs[u] = d_log_prob;
    if (a.d_kl) a.d_kl[u] = d_kl;
    if (a.d_entropy) a.d_entropy[u] = d_entropy;
  });
}

/* ---- advantages ---- */

struct Normalisation {
  double eps, clip;
  bool divide;
};

/* Reads each return before its lane writes there, so either result may lie over the returns. */
template <class Team>
TEAMTR_HD inline void group_advantages(const float* returns, int64_t size, const Normalisation& n, float* advantages,
                                       float* centred, Team team) {
  /* Returns are taken from the group's first: equal ones are then 0, and their mean is, without rounding. */
  const double origin = team.leaders(returns[0]);

  double sum = 0;
  for (int64_t i = team.lane(); i < size; i += Team::kLanes) sum += returns[i] - origin;
  sum = team.sum(sum);
  /* One infinite return, no group. */
  const double mu = sum > -INFINITY && sum < INFINITY ? sum / static_cast<double>(size) : NAN;

  double squares = 0;
  for (int64_t i = team.lane(); i < size; i += Team::kLanes) {
    const double residual = returns[i] - origin - mu;
    squares += residual * residual;
  }
  squares = team.sum(squares);
  const double sigma = n.divide ? sqrt(squares / static_cast<double>(size) + n.eps) : 1.0;

  for (int64_t i = team.lane(); i < size; i += Team::kLanes) {
    const double residual = returns[i] - origin - mu;
    /* sigma = 0: an all-equal group and eps_norm = 0. */
    const double advantage = sigma == 0 ? 0.0 : residual / sigma;
    if (centred) centred[i] = static_cast<float>(residual);
    advantages[i] = static_cast<float>(clamp(advantage, -n.clip, n.clip));
  }
}

}  // namespace teamtr
#endif
