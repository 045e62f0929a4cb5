/*
 * Exact token KL of two rows, accurate for small ones, and its gradient.
 *
 * With r = log P - log Q the KL is summed termwise as P (r + expm1(-r)): every term is >= 0, equal rows give 0, nothing
 * cancels. That needs both log-normalisers first, so in general a row is looked at twice. Two kernels:
 *
 *   near_kernel      one look, for policies a trust-region step apart: the identity of native/src/kernels.inl, with a = p - q at
 *                    the likeliest of the row's first tokens. A row it is not for (some |u| > 1, a mask of only one, a far off)
 *                    is marked in its kl, and mostly given up in the first step.
 *   resident_kernel  the rows that were marked, and all rows of the gradient: three sweeps (statistics of both; the sum; the
 *                    gradient), of which only the first reads device memory. A thread keeps its vectors of both rows in
 *                    shared memory; rows that are too long for a block's are spread over a cluster of blocks, which exchange
 *                    some 40 bytes twice. 2 x 151,936 bf16 are 608 KB: eight blocks of 80 KB, two to a multiprocessor, so
 *                    that one computes while another loads. Rows that do not fit (sm_80 has no clusters) are read again.
 *
 * Passes over device memory, bytes per row of V elements of b bytes: forward two reads, 2 V b; backward two reads and one
 * write, 3 V b; where a row does not fit, arbitrary policies 4 V b, backward 7 V b.
 *
 * Contract: teamtr.h. How a row is spread depends on its length, dtype and the device alone, so its bits do.
 */
#include "kl.cuh"

namespace teamtr {
namespace cuda {
namespace {

/* A NaN that no arithmetic makes: this row is still to be done. */
constexpr uint32_t kMarked = 0x7fc7ea32u;

template <class D> SIMT_DEVICE void write_kl(const Kl& a, int64_t r, int64_t target, double temperature, const KlRow& k) {
  const Finished p(k.p, temperature);
  a.kl[r] = (float)k.kl;
  if (a.log_probs_p || a.log_probs_q) {
    const float p_target = element<D>(a.p.row(r), target), q_target = element<D>(a.q.row(r), target);
    write(a.log_probs_p, r, p.log_prob(p_target));
    write(a.log_probs_q, r, kl_log_prob_q(k, p, temperature, p_target, q_target));
  }
  write(a.entropy_p, r, p.entropy);
  if (a.entropy_q) a.entropy_q[r] = (float)Finished(k.q, temperature).entropy;
  write(a.lse_p, r, p.lse);
  if (a.lse_q) a.lse_q[r] = (float)(k.has_q ? Finished(k.q, temperature).lse : p.lse - k.log_ratio);
  write(a.log_ratio, r, k.log_ratio);
}

SIMT_DEVICE void write_all(const Kl& a, int64_t r, float value) {
  a.kl[r] = value;
  float* const others[] = {a.log_probs_p, a.log_probs_q, a.entropy_p, a.entropy_q, a.lse_p, a.lse_q, a.log_ratio};
  SIMT_UNROLL
  for (int i = 0; i < 7; i++) write(others[i], r, value);
}

/* ---- one look ---- */

/* Sums over what a thread has seen, all relative to p.max; see near_kl in rows.h. */
struct Near {
  Online p, q; /* q's only where its entropy is asked for */
  float eu = 0, ephi = 0;

  static SIMT_DEVICE_MEMBER Near merged(Near a, Near b, float scale) {
    const Online p = Online::merged(a.p, b.p, scale);
    if (b.p.max > a.p.max) {
      const Near c = a;
      a = b;
      b = c;
    }
    const float f = b.p.max > -kInfinity ? exp2_approx((b.p.max - a.p.max) * scale) : 0.0f;
    a.eu += f * b.eu;
    a.ephi += f * b.ephi;
    a.p = p;
    return a;
  }
};

struct NearSums {
  float rest = 0, ey = 0, eu = 0, ephi = 0;
  int ties = 0;
  bool far = false;

  template <class D, bool kEntropy>
  SIMT_DEVICE_MEMBER void add(float p, float q, float m, float scale, float a, float inverse) {
    const bool tie = p >= m;
    const float y = (p - m) * scale, e = exp2_approx(y), u = difference<D>(p, q, a) * inverse, weighted = e * u;
    far |= !(fabsf(u) <= 1.0f);
    ties += tie;
    rest += tie ? 0.0f : e;
    if (kEntropy) ey = fmaf(e, fmaxf(y, -127.0f), ey);
    eu += weighted;
    ephi = fmaf(weighted * u, phi_over_u2(u), ephi);
  }
};

struct NearShared {
  Near slots[kThreads / kWarp];
  int far;
};

/* a: p - q at the likeliest of the first tokens, one vector a thread. */
template <class D, bool kAligned>
SIMT_DEVICE float first_difference(const char* p, const char* q, int64_t vocab, NearShared* s) {
  float x[D::kPerVector], z[D::kPerVector];
  D::unpack(load_vector<D, kAligned>(p, thread(), vocab), x);
  D::unpack(load_vector<D, kAligned>(q, thread(), vocab), z);
  float top = -kInfinity, partner = -kInfinity;
  for (int i = 0; i < D::kPerVector; i++) {
    partner = x[i] > top ? z[i] : partner;
    top = x[i] > top ? x[i] : top;
  }
  const auto fold = [&](float other_top, float other_partner) { /* of equals the larger partner, whoever asks */
    if (other_top > top || (other_top == top && other_partner > partner)) {
      top = other_top;
      partner = other_partner;
    }
  };
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const float other_top = exchange_xor(top, distance), other_partner = exchange_xor(partner, distance);
    fold(other_top, other_partner);
  }
  if (lane() == 0) {
    s->slots[warp()].eu = top;
    s->slots[warp()].ephi = partner;
  }
  barrier();
  for (int w = 0; w < warps(); w++) fold(s->slots[w].eu, s->slots[w].ephi);
  barrier();
  const float a = top - partner;
  return fabsf(a) <= -kLow ? a : 0.0f;
}

template <class D, bool kAligned, bool kEntropy>
SIMT_DEVICE Near thread_near(const char* p, const char* q, int64_t vocab, float scale, float a, float inverse, NearShared* s) {
  Near near;
  volatile int* far = &s->far;
  walk_pairs<D, kAligned>(p, q, vocab, block_team(), [&](int i, const Vec16& vp, const Vec16& vq) {
    if (*far) return false; /* whoever finds it, the row is far */
    float x[D::kPerVector], z[D::kPerVector];
    D::unpack(vp, x);
    D::unpack(vq, z);
    float m = near.p.max;
    for (int e = 0; e < D::kPerVector; e++) m = fmaxf(m, x[e]);
    const bool higher = m > near.p.max;
    if (higher) {
      const float f = near.p.raise(m, scale);
      near.eu *= f;
      near.ephi *= f;
    }
    if (kEntropy) near.q.template add<D::kPerVector, true>(z, scale);
    NearSums sums;
    SIMT_UNROLL
    for (int e = 0; e < D::kPerVector; e++) sums.add<D, kEntropy>(x[e], z[e], m, scale, a, inverse);
    if (sums.far) { /* elements masked in both rows look like it too: once more without them, from memory, as it is rare */
      sums = NearSums();
      const int64_t first = (int64_t)i * D::kPerVector;
      SIMT_NO_UNROLL
      for (int64_t v = first; v < first + D::kPerVector && v < vocab; v++) {
        const float at_p = element<D>(p, v), at_q = element<D>(q, v);
        if (!(at_p == -kInfinity && at_q == -kInfinity)) sums.add<D, kEntropy>(at_p, at_q, m, scale, a, inverse);
      }
      if (sums.far) {
        *far = 1;
        return false;
      }
    }
    near.p.rest += sums.rest + (float)(sums.ties - (higher ? 1 : 0));
    near.p.ey += sums.ey;
    near.eu += sums.eu;
    near.ephi += sums.ephi;
    return true;
  });
  return near;
}

SIMT_DEVICE Near exchanged(const Near& mine, int distance) {
  Near other;
  other.p = {exchange_xor(mine.p.max, distance), exchange_xor(mine.p.rest, distance), exchange_xor(mine.p.ey, distance)};
  other.q = {exchange_xor(mine.q.max, distance), exchange_xor(mine.q.rest, distance), exchange_xor(mine.q.ey, distance)};
  other.eu = exchange_xor(mine.eu, distance);
  other.ephi = exchange_xor(mine.ephi, distance);
  return other;
}

template <class D, bool kEntropy> SIMT_KERNEL void SIMT_BOUNDS(kThreads, 2) near_kernel(const Kl a) {
  NearShared* s = reinterpret_cast<NearShared*>(shared());
  for (int64_t r = block(); r < a.p.rows; r += blocks()) {
    const double temperature = a.temperature[r];
    int64_t target;
    const RowKind kind = row_kind(a.targets, a.p.vocab, a.mask, temperature, r, &target);
    if (kind != kProper) {
      if (thread() == 0) write_all(a, r, kind == kIgnored ? 0.0f : (float)NAN);
      continue;
    }
    const char *p = a.p.row(r), *q = a.q.row(r);
    const bool aligned = aligned16(p) && aligned16(q);
    const float scale = scale_of(temperature), inverse = (float)(1 / temperature);
    if (thread() == 0) s->far = 0; /* seen by all after the barriers within first_difference */
    const float apart = aligned ? first_difference<D, true>(p, q, a.p.vocab, s) : first_difference<D, false>(p, q, a.p.vocab, s);
    Near near = aligned ? thread_near<D, true, kEntropy>(p, q, a.p.vocab, scale, apart, inverse, s)
                        : thread_near<D, false, kEntropy>(p, q, a.p.vocab, scale, apart, inverse, s);
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      const Near other = exchanged(near, distance);
      if (kEntropy) near.q = Online::merged(near.q, other.q, scale);
      const Online both = near.q;
      near = Near::merged(near, other, scale);
      near.q = both;
    }
    if (lane() == 0) s->slots[warp()] = near;
    barrier();
    if (thread() == 0) {
      Near all = s->slots[0];
      for (int w = 1; w < warps(); w++) {
        const Online both = kEntropy ? Online::merged(all.q, s->slots[w].q, scale) : all.q;
        all = Near::merged(all, s->slots[w], scale);
        all.q = both;
      }
      KlRow k;
      k.p = all.p.finish();
      k.q = all.q.finish();
      const bool proper = !s->far && all.p.max > kLow && all.p.max < kInfinity && all.p.rest == all.p.rest;
      if (proper && near_kl(1 + k.p.rest, all.eu, all.ephi, (double)apart / temperature, &k))
        write_kl<D>(a, r, target, temperature, k);
      else
        reinterpret_cast<uint32_t*>(a.kl)[r] = kMarked;
    }
    barrier(); /* before slots and flag are written again */
  }
}

/* ---- rows on chip ---- */

struct Resident {
  Kl kl;
  const float* grad; /* of the gradient; null: the rows marked in kl */
  bool wrt_q;
  Matrix d;
  int slots;         /* vectors of each row that a thread keeps in shared memory; 0: none, they are read again */
};

/* Half of the others' threads: two sweeps from shared memory want registers more than company. */
constexpr int kResidentThreads = 256;

struct ResidentShared {
  Online warp_p[kResidentThreads / kWarp], warp_q[kResidentThreads / kWarp];
  double warp_kl[kResidentThreads / kWarp], warp_excess[kResidentThreads / kWarp];
  Online cluster_p, cluster_q; /* this block's, for the others of its cluster to read */
  double cluster_kl, cluster_excess;
  KlRow row; /* all that thread 0 has found out */
  float kl;
};
constexpr size_t kResidentHeader = (sizeof(ResidentShared) + 15) / 16 * 16;

/* The thread's j-th vector of p or q. */
SIMT_DEVICE Vec16* slot(const Resident& a, int which, int j) {
  return reinterpret_cast<Vec16*>(shared() + kResidentHeader) + (int64_t)(which * a.slots + j) * threads() + thread();
}

/* Sweep over what the thread has, from shared memory where it is there. */
template <class D, bool kAligned, class Step>
SIMT_DEVICE void walk_again(const Resident& a, const char* p, const char* q, int64_t vocab, const Team& team, Step&& step) {
  int j = 0;
  for (int i = team.rank; i < vectors_of<D>(vocab); i += team.count, j++) {
    const Vec16 vp = a.slots ? *slot(a, 0, j) : load_vector<D, kAligned>(p, i, vocab);
    const Vec16 vq = a.slots ? *slot(a, 1, j) : load_vector<D, kAligned>(q, i, vocab);
    float x[D::kPerVector], z[D::kPerVector];
    D::unpack(vp, x);
    D::unpack(vq, z);
    step(i, x, z);
  }
}

template <class D, bool kAligned>
SIMT_DEVICE void read_statistics(const Resident& a, const char* p, const char* q, const Team& team, float scale, Online* of_p,
                                 Online* of_q) {
  int j = 0;
  walk_pairs<D, kAligned>(p, q, a.kl.p.vocab, team, [&](int, const Vec16& vp, const Vec16& vq) {
    if (a.slots) {
      *slot(a, 0, j) = vp;
      *slot(a, 1, j) = vq;
      j++;
    }
    float x[D::kPerVector];
    D::unpack(vp, x);
    of_p->add<D::kPerVector, true>(x, scale);
    D::unpack(vq, x);
    of_q->add<D::kPerVector, true>(x, scale);
    return true;
  });
}

/* Sums of the KL's terms and of Q - P; an infinite term makes the first infinite. */
template <class D, bool kAligned>
SIMT_DEVICE void sum_terms(const Resident& a, const char* p, const char* q, const Team& team, const PairSoftmax& s,
                           float* kl, float* excess) {
  walk_again<D, kAligned>(a, p, q, a.kl.p.vocab, team, [&](int, const float* x, const float* z) {
    for (int i = 0; i < D::kPerVector; i++) {
      const PairAt at = PairAt::of<D>(x[i], z[i], s);
      const float small = at.P * (at.r * at.r * phi_over_u2(at.r)), more = at.excess();
      const float term = fabsf(at.r) <= 1 ? small : fmaf(at.P, at.r, more);
      *kl += z[i] == -kInfinity && x[i] > -kInfinity ? kInfinity : term;
      *excess += more;
    }
  });
}

template <class D, bool kAligned>
SIMT_DEVICE void write_kl_gradient(const Resident& a, const char* p, const char* q, char* d, const Team& team,
                                   const PairSoftmax& s, float grad, float kl) {
  walk_again<D, kAligned>(a, p, q, a.d.vocab, team, [&](int i, const float* x, const float* z) {
    float out[D::kPerVector];
    for (int e = 0; e < D::kPerVector; e++) {
      const PairAt at = PairAt::of<D>(x[e], z[e], s);
      out[e] = grad * (a.wrt_q ? at.excess() : at.P * (at.r - kl));
    }
    store_vector<D, kAligned>(d, i, a.d.vocab, out);
  });
}

SIMT_DEVICE bool proper(const RowStats& s) { return s.max > -kInfinity && s.max < kInfinity && s.rest == s.rest; }

/* One row by the blocks of a cluster; all of its threads come here. */
template <class D, bool kAligned>
SIMT_DEVICE void resident_row(const Resident& a, int64_t r, int64_t target, double temperature, const char* p, const char* q,
                              char* d) {
  ResidentShared* s = reinterpret_cast<ResidentShared*>(shared());
  const Team team = cluster_team();
  const float scale = scale_of(temperature);

  Online of_p, of_q;
  read_statistics<D, kAligned>(a, p, q, team, scale, &of_p, &of_q);
  of_p = warp_merged(of_p, scale);
  of_q = warp_merged(of_q, scale);
  if (lane() == 0) {
    s->warp_p[warp()] = of_p;
    s->warp_q[warp()] = of_q;
  }
  barrier();
  if (thread() == 0) {
    of_p = s->warp_p[0];
    of_q = s->warp_q[0];
    for (int w = 1; w < warps(); w++) {
      of_p = Online::merged(of_p, s->warp_p[w], scale);
      of_q = Online::merged(of_q, s->warp_q[w], scale);
    }
    s->cluster_p = of_p;
    s->cluster_q = of_q;
  }
  cluster_barrier();
  if (thread() == 0) { /* each block's for itself, in the same order */
    of_p = *cluster_at(&s->cluster_p, 0);
    of_q = *cluster_at(&s->cluster_q, 0);
    for (int b = 1; b < cluster_blocks(); b++) {
      of_p = Online::merged(of_p, *cluster_at(&s->cluster_p, b), scale);
      of_q = Online::merged(of_q, *cluster_at(&s->cluster_q, b), scale);
    }
    KlRow k;
    k.p = of_p.finish();
    k.q = of_q.finish();
    k.has_q = true;
    k.kl = NAN;
    k.log_ratio = proper(k.p) && proper(k.q)
                      ? ((double)k.p.max - (double)k.q.max) / temperature + (log1p(k.p.rest) - log1p(k.q.rest))
                      : NAN;
    s->row = k;
  }
  barrier();

  float kl = 0, excess = 0;
  sum_terms<D, kAligned>(a, p, q, team,
                         {softmax_of(s->row.p, temperature), softmax_of(s->row.q, temperature), s->row.log_ratio, temperature},
                         &kl, &excess);
  const auto plus = [](double x, double y) { return x + y; };
  const double warp_kl = warp_fold((double)kl, plus), warp_excess = warp_fold((double)excess, plus);
  if (lane() == 0) {
    s->warp_kl[warp()] = warp_kl;
    s->warp_excess[warp()] = warp_excess;
  }
  barrier();
  if (thread() == 0) {
    double block_kl = 0, block_excess = 0;
    for (int w = 0; w < warps(); w++) {
      block_kl += s->warp_kl[w];
      block_excess += s->warp_excess[w];
    }
    s->cluster_kl = block_kl;
    s->cluster_excess = block_excess;
  }
  cluster_barrier();
  if (thread() == 0) {
    double all_kl = 0, all_excess = 0;
    for (int b = 0; b < cluster_blocks(); b++) {
      all_kl += *cluster_at(&s->cluster_kl, b);
      all_excess += *cluster_at(&s->cluster_excess, b);
    }
    KlRow k = s->row;
    k.kl = proper(k.p) && proper(k.q) ? (all_kl > 0 ? all_kl : 0) : NAN;
    k.log_ratio -= all_excess; /* sum Q - P = 0 fixes what rounding left in the normalisers */
    s->row = k;
    if (!a.grad && team.rank == 0) write_kl<D>(a.kl, r, target, temperature, k);
  }
  barrier();
  if (a.grad) {
    const KlRow k = s->row;
    const double lse_p = Finished(k.p, temperature).lse, lse_q = Finished(k.q, temperature).lse;
    write_kl_gradient<D, kAligned>(
        a, p, q, d, team,
        {softmax_from_lse(lse_p, temperature), softmax_from_lse(lse_q, temperature), k.log_ratio, temperature},
        (float)(a.grad[r] / temperature), (float)k.kl);
  }
  /* What is written next lies a barrier of the block behind here, and what others read of it a barrier of the cluster. */
}

template <class D> SIMT_KERNEL void SIMT_BOUNDS(kResidentThreads, 2) resident_kernel(const Resident a) {
  const int64_t first = block() / cluster_blocks(), clusters = blocks() / cluster_blocks();
  const auto row = [&](int64_t r) {
    const double temperature = a.kl.temperature[r];
    int64_t target;
    const RowKind kind = row_kind(a.kl.targets, a.kl.p.vocab, a.kl.mask, temperature, r, &target);
    const char *p = a.kl.p.row(r), *q = a.kl.q.row(r);
    char* d = a.grad ? a.d.row(r) : nullptr;
    if (kind != kProper || (a.grad && a.grad[r] == 0)) {
      if (a.grad) fill_row<D>(d, a.d.vocab, cluster_team(), kind == kBad ? NAN : 0.0f);
      return;
    }
    if (aligned16(p) && aligned16(q) && aligned16(d)) resident_row<D, true>(a, r, target, temperature, p, q, d);
    else resident_row<D, false>(a, r, target, temperature, p, q, d);
  };
  if (a.grad) {
    for (int64_t r = first; r < a.kl.p.rows; r += clusters) row(r);
  } else { /* the marks of 32 of its rows at a time */
    for (int64_t base = first; base < a.kl.p.rows; base += clusters * kWarp) {
      const int64_t mine = base + clusters * lane();
      uint32_t marked = ballot(mine < a.kl.p.rows && reinterpret_cast<const uint32_t*>(a.kl.kl)[mine] == kMarked);
      cluster_barrier(); /* nobody overwrites a mark that others still have to see */
      for (int i = 0; marked; i++, marked >>= 1)
        if (marked & 1) row(base + clusters * i);
    }
  }
  cluster_barrier(); /* none leaves while others read its shared memory */
}

/* ---- launches ---- */

/* How a row is spread: the fewest blocks in whose shared memory it fits with two blocks to a multiprocessor, else all that
 * a cluster may have if it fits with one, else one block that keeps nothing. */
struct Spread {
  int cluster, threads, slots, per_multiprocessor;
  size_t bytes() const { return kResidentHeader + (size_t)2 * slots * threads * sizeof(Vec16); }
};

Spread spread_of(const DeviceLimits& device, int64_t vocab, int dtype) {
  const int64_t vectors = (vocab * (int64_t)bytes_of(dtype) + 15) / 16;
  const int wanted = threads_for(vocab, dtype), threads = wanted < kResidentThreads ? wanted : kResidentThreads;
  for (const int per_multiprocessor : {2, 1}) {
    const size_t room = per_multiprocessor == 2 ? device.shared_per_multiprocessor / 2 - 1024 : device.shared_per_block;
    for (int cluster = 1; cluster <= device.largest_cluster; cluster *= 2) {
      const int64_t slots = (vectors + (int64_t)cluster * threads - 1) / ((int64_t)cluster * threads);
      const Spread s{cluster, threads, (int)slots, per_multiprocessor};
      if (slots < 4096 && s.bytes() <= (room < device.shared_per_block ? room : device.shared_per_block)) return s;
    }
  }
  return {1, threads, 0, 2};
}

int32_t run_resident(const Place& place, Resident a) {
  DeviceLimits device;
  TEAMTR_TRY(limits(place.device, &device));
  const Spread s = spread_of(device, a.kl.p.vocab, a.kl.p.dtype);
  a.slots = s.slots;
  const int64_t fitting = (int64_t)device.multiprocessors * s.per_multiprocessor / s.cluster;
  const int64_t clusters = a.kl.p.rows < fitting ? a.kl.p.rows : fitting > 0 ? fitting : 1;
  const Launch l{place, clusters * s.cluster, s.threads, s.bytes(), s.cluster};
  if (a.kl.p.dtype == TEAMTR_F32) return launch<resident_kernel<F32>>(l, a);
  return a.kl.p.dtype == TEAMTR_BF16 ? launch<resident_kernel<Bf16>>(l, a) : launch<resident_kernel<F16>>(l, a);
}

template <class D> int32_t run_near(const Place& place, const Kl& a) {
  const Launch l{place, blocks_for(a.p.rows), threads_for(a.p.vocab, D::kDtype), sizeof(NearShared)};
  return a.entropy_p || a.entropy_q ? launch<near_kernel<D, true>>(l, a) : launch<near_kernel<D, false>>(l, a);
}

}  // namespace

int32_t kl_forward(const Place& place, const Kl& a) {
  TEAMTR_TRY(a.p.dtype == TEAMTR_F32    ? run_near<F32>(place, a)
             : a.p.dtype == TEAMTR_BF16 ? run_near<Bf16>(place, a)
                                        : run_near<F16>(place, a));
  return run_resident(place, {a, nullptr, false, a.p, 0});
}

int32_t kl(const Place& place, const Matrix& p, const Matrix& q, Ids targets, Temperature temperature, float* kl,
           float* log_probs_p, float* log_probs_q, float* entropy_p, float* entropy_q) {
  return kl_forward(place, {p, q, targets, temperature, nullptr, kl, log_probs_p, log_probs_q, entropy_p, entropy_q, nullptr,
                            nullptr, nullptr});
}

int32_t kl_backward(const Place& place, const Matrix& p, const Matrix& q, Ids targets, Temperature temperature,
                    const float* grad_kl, bool wrt_q, const Matrix& d) {
  const Kl forward{p, q, targets, temperature, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
  return run_resident(place, {forward, grad_kl, wrt_q, d, 0});
}

}  // namespace cuda
}  // namespace teamtr
