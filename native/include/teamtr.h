/*
 * TeamTR kernels: the C ABI between a trainer and the native kernels.
 *
 * Who calls this: the Java classes of org.teamtr.kernels, through JavaCPP. Any other language may.
 *
 * Addresses are integers (teamtr_address), as in the CUDA driver API, since the same argument may name
 * host or device memory. 0 means "not given" and is allowed only where a parameter is marked [opt].
 *
 * Errors: every function returns a status. On anything but TEAMTR_OK no output has been written, and
 * teamtr_last_error() says in words what was wrong, with the numbers. No exception leaves the library.
 *
 * A matrix of logits is seven parameters, always in this order:
 *   address, dtype, rows, vocab, row_stride, rows_per_batch, batch_stride
 * Row r starts at element (r / rows_per_batch) * batch_stride + (r % rows_per_batch) * row_stride, so that a
 * view such as logits[:, :-1] of a [batch, length, vocab] tensor is read in place. Strides are in elements,
 * row_stride >= vocab. Columns between vocab and row_stride are never read or written. vocab is at most 2^31 - 1;
 * rows * vocab may be more. Addresses need the alignment of their elements and no other.
 *
 * Per-token results are f32 vectors of `rows` elements, contiguous. Index vectors are int32 or int64.
 *
 * Targets: 0 <= target < vocab, or TEAMTR_IGNORE (-100): the row is then not read, its results are 0 and its
 * gradient row is 0. Any other value is TEAMTR_INVALID with the row's number, before anything is written.
 *
 * Temperature: the distribution is softmax(logits / T). Either one scalar, or [opt] one f32 per row which then
 * replaces the scalar. Finite and > 0.
 *
 * Special values: -inf is a masked token (probability 0). A row with a NaN, a +inf, or nothing but -inf has no
 * distribution: its results are NaN, its neighbours' are not touched.
 *
 * Bits: a row's result depends on the row's numbers alone, never on the batch, its place in it, its alignment,
 * the number of threads, or earlier calls. AVX-512 and AVX2 give the same bits.
 *
 * Threads: every function may be called from any number of threads at once. Work is shared among a pool of
 * teamtr_threads() threads; a call that finds the pool busy runs on its caller alone.
 */
#ifndef TEAMTR_H
#define TEAMTR_H

#include <stdint.h>

#if defined(__GNUC__)
#define TEAMTR_API __attribute__((visibility("default")))
#else
#define TEAMTR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** A host or device address as an integer; 0 is "not given". */
typedef uint64_t teamtr_address;

enum {
  TEAMTR_OK = 0,
  TEAMTR_INVALID = 1,  /* an argument or the contents of an index vector are wrong */
  TEAMTR_NO_MEMORY = 2 /* scratch memory could not be had */
};

enum { TEAMTR_F32 = 0, TEAMTR_BF16 = 1, TEAMTR_F16 = 2 };        /* dtype of logits */
enum { TEAMTR_I32 = 0, TEAMTR_I64 = 1 };                         /* dtype of index vectors */
enum { TEAMTR_IGNORE = -100 };                                   /* target of a row that does not count */
enum { TEAMTR_PORTABLE = 0, TEAMTR_AVX2 = 1, TEAMTR_AVX512 = 2 }; /* CPU levels */

/** Words for the last error of this thread; valid until its next call into the library. */
TEAMTR_API const char* teamtr_last_error(void);

/** ABI number of this build; a caller compiled against another number must not go on. */
TEAMTR_API int32_t teamtr_abi(void);

/* ---- the machine ---------------------------------------------------------------------------------- */

/** The best CPU level this machine has. */
TEAMTR_API int32_t teamtr_cpu_best(void);
/** The CPU level in use. */
TEAMTR_API int32_t teamtr_cpu_level(void);
/** Forces a CPU level, for tests and comparisons; TEAMTR_INVALID when the machine lacks it. */
TEAMTR_API int32_t teamtr_cpu_force(int32_t level);
/** Threads that share the work of one call, the caller included. */
TEAMTR_API int32_t teamtr_threads(void);
/** Sets that number, 1 to 1024. Waits for a call that is using the pool. */
TEAMTR_API int32_t teamtr_threads_set(int32_t threads);

/**
 * The floor of a benchmark: reads `bytes` (rounded down to 256) at data once with the pool's threads, and with
 * write = 1 writes the same back. checksum [opt], uint32, keeps a compiler from leaving the reading out.
 */
TEAMTR_API int32_t teamtr_sweep(teamtr_address data, int64_t bytes, int32_t write, teamtr_address checksum /*[opt]*/);

/* ---- log-probs, entropy --------------------------------------------------------------------------- */

/**
 * log_probs[r] = log softmax(x_r / T)[target_r]; lse[r] = log sum_v exp(x_rv / T);
 * entropy[r] = - sum_v p_v log p_v, in nats. Reads the logits from memory once.
 * Without targets (0) no log_probs may be asked for. Computed as x_t - max - log(sum), so accurate near 0.
 */
TEAMTR_API int32_t teamtr_log_probs(
    teamtr_address logits, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t row_stride, int64_t rows_per_batch, int64_t batch_stride,
    teamtr_address targets /*[opt]*/, int32_t target_type,
    float temperature, teamtr_address temperatures /*[opt]*/,
    teamtr_address log_probs /*[opt]*/, teamtr_address lse /*[opt]*/, teamtr_address entropy /*[opt]*/);

/**
 * d_logits = grad_log_prob * d log_prob / d logits + grad_entropy * d entropy / d logits, 1/T included:
 *   d_v = ( g * (1[v = target] - p_v) - h * p_v * (log p_v + entropy) ) / T
 * log_probs, lse and (with grad_entropy) entropy are those of the forward call. d_logits has the logits'
 * dtype and may be the logits themselves (same address and strides). A row whose upstream gradients are all 0
 * is not read: its gradient is 0.
 * Vocab-parallel: the logits hold columns vocab_start .. vocab_start + vocab of global_vocab, targets are
 * global. Otherwise vocab_start = 0 and global_vocab = vocab.
 */
TEAMTR_API int32_t teamtr_log_probs_backward(
    teamtr_address logits, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t row_stride, int64_t rows_per_batch, int64_t batch_stride,
    teamtr_address targets /*[opt]*/, int32_t target_type, int64_t vocab_start, int64_t global_vocab,
    float temperature, teamtr_address temperatures /*[opt]*/,
    teamtr_address log_probs /*[opt]*/, teamtr_address lse, teamtr_address entropy /*[opt]*/,
    teamtr_address grad_log_probs /*[opt]*/, teamtr_address grad_entropy /*[opt]*/,
    teamtr_address d_logits, int64_t d_row_stride, int64_t d_rows_per_batch, int64_t d_batch_stride);

/* ---- exact token KL -------------------------------------------------------------------------------- */

/**
 * kl[r] = KL(P_r || Q_r) = sum_v P_v (log P_v - log Q_v), P = softmax(p / T), Q = softmax(q / T), in nats.
 * Never negative, exactly 0 for equal rows, +inf where P_v > 0 = Q_v; relative error <= 1e-4 down to 1e-6.
 * Optionally the log-probs of the targets and the entropies under both. p and q have the same rows, vocab and
 * dtype; both are read from memory once.
 */
TEAMTR_API int32_t teamtr_kl(
    teamtr_address p, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t p_row_stride, int64_t p_rows_per_batch, int64_t p_batch_stride,
    teamtr_address q, int64_t q_row_stride, int64_t q_rows_per_batch, int64_t q_batch_stride,
    teamtr_address targets /*[opt]*/, int32_t target_type,
    float temperature, teamtr_address temperatures /*[opt]*/,
    teamtr_address kl,
    teamtr_address log_probs_p /*[opt]*/, teamtr_address log_probs_q /*[opt]*/,
    teamtr_address entropy_p /*[opt]*/, teamtr_address entropy_q /*[opt]*/);

/**
 * d = grad_kl[r] * d KL(P_r || Q_r) / d(q) when wrt_q is 1: grad * (Q_v - P_v) / T;
 *     grad_kl[r] * d KL(P_r || Q_r) / d(p) when wrt_q is 0: grad * P_v (log P_v - log Q_v - KL) / T.
 * Needs nothing from the forward call. d has the dtype of p and q and may be either of them.
 * Rows whose KL is +inf have NaN gradients where the formula has none.
 */
TEAMTR_API int32_t teamtr_kl_backward(
    teamtr_address p, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t p_row_stride, int64_t p_rows_per_batch, int64_t p_batch_stride,
    teamtr_address q, int64_t q_row_stride, int64_t q_rows_per_batch, int64_t q_batch_stride,
    teamtr_address targets /*[opt]: only to ignore rows*/, int32_t target_type,
    float temperature, teamtr_address temperatures /*[opt]*/,
    teamtr_address grad_kl, int32_t wrt_q,
    teamtr_address d, int64_t d_row_stride, int64_t d_rows_per_batch, int64_t d_batch_stride);

/* ---- per-token work: sampled KL, surrogate, advantages --------------------------------------------- */

enum { TEAMTR_K1 = 0, TEAMTR_K2 = 1, TEAMTR_K3 = 2, TEAMTR_ABS = 3 }; /* estimators of KL(old || new) */

/**
 * Estimates of KL(old || new) from tokens drawn from old, with d = log_old - log_new:
 *   k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d, abs = |d|.
 * per_message[m] = sum over tokens cu_seqlens[m] .. cu_seqlens[m+1] (Eq. 11 sums over tokens).
 */
TEAMTR_API int32_t teamtr_sampled_kl(
    int32_t estimator, teamtr_address log_probs_old, teamtr_address log_probs_new, int64_t tokens,
    teamtr_address cu_seqlens /*[opt]*/, int32_t cu_type, int64_t messages,
    teamtr_address per_token /*[opt]*/, teamtr_address per_message /*[opt]*/);

enum { /* the unit whose probability ratio is clipped */
  TEAMTR_RATIO_MESSAGE = 0,      /* w = prod_u new_u / old_u, Eq. 10 */
  TEAMTR_RATIO_TOKEN = 1,        /* w_u = new_u / old_u */
  TEAMTR_RATIO_MESSAGE_MEAN = 2  /* w = (prod_u new_u / old_u)^(1/|m|), length-normalised */
};
enum { /* how per-token terms become one number */
  TEAMTR_TOKEN_MEAN = 0,        /* sum over all tokens / number of tokens */
  TEAMTR_SEQ_MEAN_TOKEN_SUM = 1,  /* mean over messages of the sum over tokens */
  TEAMTR_SEQ_MEAN_TOKEN_MEAN = 2, /* mean over messages of the mean over tokens */
  TEAMTR_FIXED_LENGTH = 3       /* sum over all tokens / (messages * fixed_length) */
};
enum { /* the KL term of the loss */
  TEAMTR_KL_NONE = -1, /* else TEAMTR_K1, K2, K3, ABS on the log-probs, or: */
  TEAMTR_KL_EXACT = 4  /* the per-token values given in `kl` */
};

enum { /* the surrogate's statistics, doubles, in this order; means are over messages or tokens as named */
  TEAMTR_STAT_LOSS = 0,           /* -objective + beta * kl - entropy_coef * entropy */
  TEAMTR_STAT_OBJECTIVE = 1,      /* aggregated min(w A, clip(w) A), before the sign */
  TEAMTR_STAT_KL = 2,             /* aggregated KL term, before beta */
  TEAMTR_STAT_ENTROPY = 3,        /* aggregated entropy, before its coefficient; NaN when not given */
  TEAMTR_STAT_MESSAGES = 4,       /* messages with at least one token that counts */
  TEAMTR_STAT_TOKENS = 5,         /* tokens that count */
  /* Shares of (ratio, advantage) pairs: messages with a message ratio and per-message advantages, else tokens. */
  TEAMTR_STAT_CLIP_LOW = 6,       /* share of ratios where the lower clip binds (A < 0, w < 1 - eps_low) */
  TEAMTR_STAT_CLIP_HIGH = 7,      /* share of ratios where the upper clip binds (A > 0, w > 1 + eps_high) */
  TEAMTR_STAT_CLIP_DUAL = 8,      /* share of ratios where the dual clip binds (A < 0, w > dual_clip) */
  TEAMTR_STAT_RATIO_MEAN = 9,
  TEAMTR_STAT_RATIO_MIN = 10,
  TEAMTR_STAT_RATIO_MAX = 11,
  TEAMTR_STAT_ESS = 12,           /* (sum w)^2 / (N sum w^2), 1 at equal weights */
  TEAMTR_STAT_MONITOR_K1 = 13,    /* Eq. 11: mean over messages of sum over tokens of log old - log new */
  TEAMTR_STAT_MONITOR_K3 = 14,    /* the same with k3, never negative */
  TEAMTR_STAT_MONITOR_EXACT = 15, /* the same with the given exact KL; NaN when not given */
  TEAMTR_STAT_MONITOR_MAX = 16,   /* the largest k1 sum of one message */
  /* ZETA: w = the message product (log w clamped to +-20) at every ratio level; A = the message's advantage, or the
   * mean over its tokens; no dual clip. */
  TEAMTR_STAT_ZETA_CLIP = 17,     /* | mean(w A) - mean(min(w A, clip(w) A)) | over messages */
  TEAMTR_STAT_ZETA_RATIO = 18,    /* | mean(w) - 1 | * max |A| over messages */
  TEAMTR_STAT_ZETA_NORM = 19,     /* | mean(w A) - mean(w A0 / s) |, s = sqrt(mean A0^2); NaN when A0 not given */
  TEAMTR_STATS = 20
};

/**
 * The trust-region surrogate on tokens (Eq. 10), its gradient, and statistics. Everything in double inside.
 *   loss = - agg( min(w A, clip(w, 1 - eps_low, 1 + eps_high) A) ) + beta * kl_agg( kl ) - entropy_coef * agg( entropy )
 * With dual_clip > 1, for A < 0 the objective is max(that, dual_clip * A); +inf turns it off.
 * eps_low in [0, 1], eps_high >= 0, either may be +inf: no clip on that side.
 * log w is clamped to [-20, 20], with gradient 0 outside.
 * mask[u] = 0 takes token u out of everything (its log-probs are not looked at); a message with no token left
 * does not count. Messages are cu_seqlens[m] .. cu_seqlens[m+1]; cu_seqlens[0] = 0, the last = tokens.
 * advantages: one per message, or one per token when advantage_per_token is 1. With the per-message ratio levels
 * and per-token advantages, a token's term is min(w A_u, clip(w) A_u) with its message's w.
 * At w exactly on a bound the clip does not bind and the gradient flows.
 * The entropy is aggregated with `aggregation`; kl_aggregation is for the KL term alone; fixed_length is used by
 * TEAMTR_FIXED_LENGTH, in either.
 * total_tokens / total_messages replace this call's own counts as denominators when > 0, so that micro-batches
 * and ranks add up to the whole batch's loss. They act on loss, objective, KL, entropy and the gradients; the other
 * statistics are this call's own. With nothing that counts every statistic is 0 (those not given stay NaN).
 * d_log_probs[u] = d loss / d log_probs_new[u]; d_kl[u] = d loss / d kl[u] (exact KL, else 0);
 * d_entropy[u] = d loss / d entropy[u].
 * A NaN in a token that counts reaches every sum it belongs to and the gradients that share its ratio.
 */
TEAMTR_API int32_t teamtr_surrogate(
    teamtr_address log_probs_new, teamtr_address log_probs_old, int64_t tokens,
    teamtr_address advantages, int32_t advantage_per_token,
    teamtr_address cu_seqlens, int32_t cu_type, int64_t messages,
    teamtr_address mask /*[opt] uint8*/,
    teamtr_address kl /*[opt]*/, teamtr_address entropy /*[opt]*/, teamtr_address centred_returns /*[opt] per message, A0*/,
    int32_t ratio_level, double eps_low, double eps_high, double dual_clip,
    int32_t kl_term, double beta, int32_t kl_aggregation, double entropy_coef,
    int32_t aggregation, double fixed_length, int64_t total_tokens, int64_t total_messages,
    teamtr_address d_log_probs /*[opt]*/, teamtr_address d_kl /*[opt]*/, teamtr_address d_entropy /*[opt]*/,
    teamtr_address stats /*TEAMTR_STATS doubles*/);

/**
 * Logits to loss and gradient in two sweeps over the logits: log-probs (and entropy, and with old logits the
 * exact KL(old || new)), the surrogate above, the gradient. d_logits may be the logits.
 * log_probs_new, lse and work (5 * rows f32) are written; entropy (needed when entropy_coef is not 0) and kl (needed
 * with old_logits) are written when given.
 * old_logits [opt]: same shape and dtype; needed with TEAMTR_KL_EXACT, and without it only feed the statistics.
 * An ignored target takes its token out as a mask of 0 does.
 */
TEAMTR_API int32_t teamtr_policy_loss(
    teamtr_address logits, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t row_stride, int64_t rows_per_batch, int64_t batch_stride,
    teamtr_address old_logits /*[opt]*/, int64_t old_row_stride, int64_t old_rows_per_batch, int64_t old_batch_stride,
    teamtr_address targets, int32_t target_type,
    float temperature, teamtr_address temperatures /*[opt]*/,
    teamtr_address log_probs_old, teamtr_address advantages, int32_t advantage_per_token,
    teamtr_address cu_seqlens, int32_t cu_type, int64_t messages,
    teamtr_address mask /*[opt] uint8*/, teamtr_address centred_returns /*[opt]*/,
    int32_t ratio_level, double eps_low, double eps_high, double dual_clip,
    int32_t kl_term, double beta, int32_t kl_aggregation, double entropy_coef,
    int32_t aggregation, double fixed_length, int64_t total_tokens, int64_t total_messages,
    teamtr_address log_probs_new, teamtr_address lse, teamtr_address entropy /*[opt]*/, teamtr_address kl /*[opt]*/,
    teamtr_address work,
    teamtr_address d_logits, int64_t d_row_stride, int64_t d_rows_per_batch, int64_t d_batch_stride,
    teamtr_address stats);

/**
 * Group-normalised clipped advantages (Eq. 9), groups of group_size consecutive returns:
 *   mu = mean R; sig = sqrt(mean (R - mu)^2 + eps_norm); A = clip((R - mu) / sig, -clip, clip)
 * normalise = 0 leaves out the division (A = clip(R - mu)). clip = +inf turns the clip off.
 * An all-equal group gives exactly 0; a NaN or an infinity makes its whole group NaN. centred [opt] receives R - mu.
 * Either output may lie over the returns.
 */
TEAMTR_API int32_t teamtr_group_advantages(
    teamtr_address returns, int64_t count, int64_t group_size, double eps_norm, double clip, int32_t normalise,
    teamtr_address advantages, teamtr_address centred /*[opt]*/);

/* ---- sampling --------------------------------------------------------------------------------------- */

/**
 * Draws one token per row from softmax(x / T) restricted to: the top_k largest logits (0: all), then of these
 * the smallest set of the likeliest whose renormalised mass reaches top_p (1: all), then of these the tokens
 * with p_v >= min_p * max p (0: all). Ties at an edge go to the lower token id.
 * Gumbel-max: argmax_v x_v / T + g_v, where g_v is a function of (seed, row id, step, v) alone: a row's draw
 * depends neither on its neighbours nor on threads. row_ids [opt] int64, default the row number.
 * temperature 0 (or a per-row 0): the largest logit, lowest id first; log_probs are then those at T = 1.
 * log_probs: of the token under the whole softmax(x / T), equal to the bit to teamtr_log_probs;
 * log_probs_kept [opt]: renormalised over the kept set.
 * A row without a distribution gives token -1 and NaN.
 */
TEAMTR_API int32_t teamtr_sample(
    teamtr_address logits, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t row_stride, int64_t rows_per_batch, int64_t batch_stride,
    float temperature, teamtr_address temperatures /*[opt]*/,
    int64_t top_k, float top_p, float min_p,
    uint64_t seed, int32_t step, teamtr_address row_ids /*[opt]*/,
    teamtr_address tokens, int32_t token_type,
    teamtr_address log_probs /*[opt]*/, teamtr_address log_probs_kept /*[opt]*/);

/* ---- vocab-parallel ---------------------------------------------------------------------------------- */

/**
 * What one shard (columns vocab_start .. vocab_start + vocab of global_vocab) knows of each row; parts is
 * [rows, 4] f32: max, (sum of exp((x - max)/T)) - 1, sum of exp((x - max)/T) (x - max)/T, and the target's
 * logit (-inf when the target lives elsewhere). A shard of nothing but -inf gives (-inf, -1, 0, .).
 */
TEAMTR_API int32_t teamtr_log_probs_parts(
    teamtr_address logits, int32_t dtype, int64_t rows, int64_t vocab,
    int64_t row_stride, int64_t rows_per_batch, int64_t batch_stride,
    teamtr_address targets /*[opt]*/, int32_t target_type, int64_t vocab_start, int64_t global_vocab,
    float temperature, teamtr_address temperatures /*[opt]*/,
    teamtr_address parts);

/** Merges parts [shards, rows, 4] of the same rows and temperatures into the results of teamtr_log_probs. */
TEAMTR_API int32_t teamtr_log_probs_merge(
    teamtr_address parts, int64_t shards, int64_t rows,
    teamtr_address targets /*[opt]: only to ignore rows*/, int32_t target_type,
    float temperature, teamtr_address temperatures /*[opt]*/,
    teamtr_address log_probs /*[opt]*/, teamtr_address lse /*[opt]*/, teamtr_address entropy /*[opt]*/);

#ifdef __cplusplus
}
#endif
#endif
