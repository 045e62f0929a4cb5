/*
 * The two sweeps of the policy loss over the logits; the surrogate between them is surrogate.cu.
 *
 * Passes over device memory, bytes per row of V elements of b bytes: without old logits those of log_probs.cu, 3 V b; with
 * them the forward is that of kl.cu, 2 V b, and the gradient reads the old logits only where the exact KL is a part of the
 * loss: then two reads and a write, 5 V b in all. A ratio per message needs all of its log-probs before any gradient is known, so
 * two sweeps are the least. Rows that do not count are not read, nor are in the second sweep rows whose gradient is 0.
 *
 * Contract: teamtr.h.
 */
#include "kl.cuh"

namespace teamtr {
namespace cuda {

int32_t log_probs_of_policy_loss(const Place& place, const PolicyLoss& a); /* log_probs.cu */
int32_t gradient_of_policy_loss(const Place& place, const PolicyLoss& a);

namespace {

/* A row's gradient: of log-prob and entropy, and of the KL, both in the logits of Q = new. */
struct LossGradient {
  RowGradient row;
  PairSoftmax pair;
  float grad;
};

template <class D, bool kAligned>
SIMT_DEVICE void write_gradient(const char* p, const char* q, char* d, int64_t vocab, const LossGradient& g) {
  walk_pairs<D, kAligned>(p, q, vocab, block_team(), [&](int i, const Vec16& vp, const Vec16& vq) {
    float x[D::kPerVector], z[D::kPerVector];
    D::unpack(vp, x);
    D::unpack(vq, z);
    SIMT_UNROLL
    for (int e = 0; e < D::kPerVector; e++) {
      const PairAt at = PairAt::of<D>(x[e], z[e], g.pair);
      z[e] = fmaf(at.Q, fmaf(g.row.h, fmaxf(at.log2_q, -127.0f), g.row.b), g.grad * at.excess());
    }
    store_vector<D, kAligned>(d, i, vocab, z);
    return true;
  });
  write_target<D>(d, block_team(), g.row);
}

template <class D> SIMT_KERNEL void SIMT_BOUNDS(kThreads, 2) kl_and_policy_gradient_kernel(const PolicyLoss a) {
  LossGradient* shared_gradient = reinterpret_cast<LossGradient*>(shared());
  for (int64_t r = block(); r < a.x.rows; r += blocks()) {
    const double temperature = a.temperature[r];
    int64_t target;
    const RowKind kind = row_kind(a.targets, a.x.vocab, a.mask, temperature, r, &target);
    const float g = a.d_log_probs[r], h = a.d_entropy ? a.d_entropy[r] : 0, k = a.d_kl[r];
    char* d = a.d.row(r);
    if (kind != kProper || (g == 0 && h == 0 && k == 0)) {
      fill_row<D>(d, a.d.vocab, block_team(), kind == kBad ? NAN : 0.0f);
      continue;
    }
    const char *p = a.old.row(r), *q = a.x.row(r);
    if (thread() == 0) {
      const float p_target = element<D>(p, target), q_target = element<D>(q, target);
      RowGradient row = row_gradient(temperature, target, q_target, a.log_probs[r], a.lse[r], a.entropy ? a.entropy[r] : 0, g, h);
      const double difference =
          kl_target_difference(temperature, p_target, q_target, a.log_probs[r], a.lse_old[r], a.log_ratio[r]);
      row.at_target = (float)(row.at_target + k * difference / temperature);
      *shared_gradient = {row,
                          {softmax_from_lse(a.lse_old[r], temperature), row.softmax, a.log_ratio[r], temperature},
                          (float)(k / temperature)};
    }
    barrier();
    /* Read from shared memory where it is used: fourteen numbers are too many to hold. */
    if (aligned16(p) && aligned16(q) && aligned16(d)) write_gradient<D, true>(p, q, d, a.x.vocab, *shared_gradient);
    else write_gradient<D, false>(p, q, d, a.x.vocab, *shared_gradient);
    barrier(); /* before the next row's is written */
  }
}

}  // namespace

int32_t policy_loss_forward(const Place& place, const PolicyLoss& a) {
  if (!a.old.data) return log_probs_of_policy_loss(place, a);
  return kl_forward(place, {a.old, a.x, a.targets, a.temperature, a.mask, a.kl, nullptr, a.log_probs, nullptr, a.entropy,
                            a.lse_old, a.lse, a.log_ratio});
}

int32_t policy_loss_backward(const Place& place, const PolicyLoss& a) {
  if (!a.d_kl) return gradient_of_policy_loss(place, a);
  const Launch l{place, blocks_for(a.x.rows), threads_for(a.x.vocab, a.x.dtype), sizeof(LossGradient)};
  if (a.x.dtype == TEAMTR_F32) return launch<kl_and_policy_gradient_kernel<F32>>(l, a);
  return a.x.dtype == TEAMTR_BF16 ? launch<kl_and_policy_gradient_kernel<Bf16>>(l, a)
                                  : launch<kl_and_policy_gradient_kernel<F16>>(l, a);
}

}  // namespace cuda
}  // namespace teamtr
