/*
 * The C ABI from C++, for the sanitizers: every vocab-sized kernel over awkward shapes in memory blocks of exactly
 * the right size, at every CPU level, from several threads at once, against plain double loops, and with arguments
 * that must be refused. The results are tested from Java; this program is about errors of memory and threads.
 */
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "teamtr.h"

namespace {

int checks = 0, failures = 0;

void expect(bool good, const std::string& what) {
  checks++;
  if (!good && ++failures <= 20) std::printf("FAILED: %s\n", what.c_str());
}

/* A heap block of exactly n elements, at an odd offset of the element's size from what malloc gives. */
template <class T> struct Block {
  std::unique_ptr<char[]> raw;
  int64_t n;
  explicit Block(int64_t n) : raw(new char[(n + 1) * sizeof(T)]), n(n) {}
  T* data() { return reinterpret_cast<T*>(raw.get() + sizeof(T)); }
  T& operator[](int64_t i) { return data()[i]; }
  teamtr_address address() { return reinterpret_cast<uintptr_t>(data()); }
};

float bf16(uint16_t h) {
  const uint32_t u = (uint32_t)h << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}

struct Case {
  int64_t rows, vocab, stride;
  int dtype;
  Block<float> f;
  Block<uint16_t> h;
  Case(int64_t rows, int64_t vocab, int64_t pad, int dtype, std::mt19937& g)
      : rows(rows), vocab(vocab), stride(vocab + pad), dtype(dtype),
        f(dtype == TEAMTR_F32 ? size() : 0), h(dtype == TEAMTR_F32 ? 0 : size()) {
    std::normal_distribution<float> n(0, 4);
    for (int64_t i = 0; i < size(); i++) {
      const float x = g() % 17 == 0 ? -INFINITY : n(g);
      if (dtype == TEAMTR_F32) f[i] = x;
      else if (x == -INFINITY) h[i] = dtype == TEAMTR_BF16 ? 0xff80 : 0xfc00;
      else h[i] = (uint16_t)((g() & 0x8fff) | 0x3000); /* a finite number of either half format */
    }
  }
  int64_t size() const { return rows ? (rows - 1) * stride + vocab : 0; } /* the last row ends the block */
  teamtr_address address() { return dtype == TEAMTR_F32 ? f.address() : h.address(); }
};

std::vector<double> log_softmax(Case& c, int64_t r, double t) {
  std::vector<double> y(c.vocab);
  double m = -INFINITY, s = 0;
  for (int64_t v = 0; v < c.vocab; v++) m = std::max(m, y[v] = (c.dtype == TEAMTR_F32 ? c.f[r * c.stride + v] : bf16(c.h[r * c.stride + v])) / t);
  for (double e : y) s += std::exp(e - m);
  for (double& e : y) e -= m + std::log(s);
  return y;
}

int32_t forward(Case& c, Block<int32_t>& t, float temperature, Block<float>& lp, Block<float>& lse, Block<float>& h) {
  return teamtr_log_probs(TEAMTR_CPU, 0, c.address(), c.dtype, c.rows, c.vocab, c.stride, std::max<int64_t>(c.rows, 1), 0, t.address(),
                          TEAMTR_I32, temperature, 0, lp.address(), lse.address(), h.address());
}

void shapes() {
  std::mt19937 g(7);
  for (int level = TEAMTR_PORTABLE; level <= teamtr_cpu_best(); level++) {
    teamtr_cpu_force(level);
    for (int dtype : {TEAMTR_F32, TEAMTR_BF16, TEAMTR_F16})
      for (int64_t vocab : {1, 2, 15, 16, 17, 63, 64, 65, 127, 2047, 2048, 2049, 4160, 6151})
        for (int64_t rows : {0, 1, 3})
          for (int64_t pad : {0, 5}) {
            Case p(rows, vocab, pad, dtype, g), q(rows, vocab, pad, dtype, g);
            Block<int32_t> t(rows);
            for (int64_t r = 0; r < rows; r++) t[r] = r == 2 ? TEAMTR_IGNORE : (int32_t)(g() % vocab);
            Block<float> lp(rows), lse(rows), h(rows), kl(rows), a(rows), b(rows), c(rows), d(rows);
            const std::string where = "level " + std::to_string(level) + " dtype " + std::to_string(dtype) + " vocab " +
                                      std::to_string(vocab) + " rows " + std::to_string(rows);
            expect(forward(p, t, 0.9f, lp, lse, h) == TEAMTR_OK, where + ": " + teamtr_last_error());
            for (int64_t r = 0; r < std::min<int64_t>(rows, 2); r++) {
              if (dtype == TEAMTR_F16) continue;
              const double want = log_softmax(p, r, 0.9f)[t[r]];
              expect(std::isnan(want) ? std::isnan(lp[r]) : want == lp[r] || std::fabs(lp[r] - want) <= 1e-6 + 5e-7 * std::fabs(want),
                     where + " log-prob");
            }
            for (Case* other : {&q, &p}) {
              expect(teamtr_kl(TEAMTR_CPU, 0, p.address(), dtype, rows, vocab, p.stride, std::max<int64_t>(rows, 1), 0, other->address(),
                               other->stride, std::max<int64_t>(rows, 1), 0, t.address(), TEAMTR_I32, 1, 0, kl.address(),
                               a.address(), b.address(), c.address(), other == &q ? d.address() : 0) == TEAMTR_OK,
                     where + " kl");
              for (int64_t r = 0; r < rows; r++)
                expect(std::isnan(lse[r]) || (other == &p ? kl[r] == 0 : kl[r] >= 0 || std::isnan(kl[r])), where + " kl sign");
            }
            Block<float> grad(rows), grad_h(rows);
            for (int64_t r = 0; r < rows; r++) grad[r] = 0.5f, grad_h[r] = -0.25f;
            for (int wrt_q : {0, 1}) {
              Case out(rows, vocab, pad + 1, dtype, g);
              expect(teamtr_kl_backward(TEAMTR_CPU, 0, p.address(), dtype, rows, vocab, p.stride, std::max<int64_t>(rows, 1), 0, q.address(),
                                        q.stride, std::max<int64_t>(rows, 1), 0, t.address(), TEAMTR_I32, 1, 0,
                                        grad.address(), wrt_q, out.address(), out.stride, std::max<int64_t>(rows, 1), 0) == TEAMTR_OK,
                     where + " kl backward");
            }
            expect(teamtr_log_probs_backward(TEAMTR_CPU, 0, p.address(), dtype, rows, vocab, p.stride, std::max<int64_t>(rows, 1), 0,
                                             t.address(), TEAMTR_I32, 0, vocab, 0.9f, 0, lp.address(), lse.address(),
                                             h.address(), grad.address(), grad_h.address(), p.address(), p.stride,
                                             std::max<int64_t>(rows, 1), 0) == TEAMTR_OK,
                   where + " backward in place");
            Block<float> parts(rows * 4);
            expect(teamtr_log_probs_parts(TEAMTR_CPU, 0, q.address(), dtype, rows, vocab, q.stride, std::max<int64_t>(rows, 1), 0,
                                          t.address(), TEAMTR_I32, 3, vocab + 3, 1, 0, parts.address()) == TEAMTR_OK,
                   where + " parts");
          }
  }
}

void policy_loss() {
  std::mt19937 g(9);
  for (int level = TEAMTR_PORTABLE; level <= teamtr_cpu_best(); level++) {
    teamtr_cpu_force(level);
    for (int dtype : {TEAMTR_F32, TEAMTR_BF16}) {
      const int64_t rows = 13, vocab = 331, messages = 4;
      Case x(rows, vocab, 3, dtype, g), old(rows, vocab, 0, dtype, g), d(rows, vocab, 1, dtype, g);
      Block<int32_t> t(rows), cu(messages + 1);
      const int ends[] = {0, 4, 4, 9, 13};
      for (int i = 0; i <= messages; i++) cu[i] = ends[i];
      for (int64_t r = 0; r < rows; r++) t[r] = r == 5 ? TEAMTR_IGNORE : (int32_t)(g() % vocab);
      Block<float> lp(rows), lse(rows), h(rows), kl(rows), work(5 * rows), lp_old(rows), adv(messages);
      Block<double> stats(TEAMTR_STATS);
      for (int64_t r = 0; r < rows; r++) lp_old[r] = -3;
      for (int m = 0; m < messages; m++) adv[m] = m - 1.5f;
      for (bool exact : {false, true})
        expect(teamtr_policy_loss(TEAMTR_CPU, 0, x.address(), dtype, rows, vocab, x.stride, rows, 0, exact ? old.address() : 0, vocab,
                                  rows, 0, t.address(), TEAMTR_I32, 1, 0, lp_old.address(), adv.address(), 0,
                                  cu.address(), TEAMTR_I32, messages, 0, 0, TEAMTR_RATIO_TOKEN, 0.2, 0.2, INFINITY,
                                  exact ? (int)TEAMTR_KL_EXACT : (int)TEAMTR_K3, 0.1, TEAMTR_TOKEN_MEAN, 0.01, TEAMTR_TOKEN_MEAN,
                                  0, 0, 0, lp.address(), lse.address(), h.address(), exact ? kl.address() : 0,
                                  work.address(), d.address(), d.stride, rows, 0, stats.address()) == TEAMTR_OK,
               std::string("policy loss: ") + teamtr_last_error());
    }
  }
}

/* The same bits from any number of threads, while other callers use the pool and its size changes. */
void threads() {
  std::mt19937 g(11);
  const int64_t rows = 64, vocab = 20011;
  Case p(rows, vocab, 0, TEAMTR_F32, g);
  Block<int32_t> t(rows);
  for (int64_t r = 0; r < rows; r++) t[r] = (int32_t)(g() % vocab);
  Block<float> lp(rows), lse(rows), h(rows);
  teamtr_threads_set(1);
  forward(p, t, 1, lp, lse, h);
  teamtr_threads_set(4);
  std::vector<std::thread> callers;
  std::vector<int> same(4, 0);
  for (int c = 0; c < 4; c++)
    callers.emplace_back([&, c] {
      Block<float> a(rows), b(rows), e(rows);
      for (int i = 0; i < 20; i++) {
        forward(p, t, 1, a, b, e);
        same[c] += !std::memcmp(a.data(), lp.data(), rows * 4) && !std::memcmp(e.data(), h.data(), rows * 4);
      }
    });
  for (int n : {1, 3, 2, 4, 1, 2}) teamtr_threads_set(n);
  for (auto& c : callers) c.join();
  for (int s : same) expect(s == 20, "the same bits from concurrent callers");
}

void refused() {
  std::mt19937 g(13);
  Case p(2, 8, 0, TEAMTR_F32, g);
  Block<int64_t> t(2);
  Block<float> out(2);
  const auto call = [&](int64_t rows, int64_t vocab, int64_t stride, int dtype, int64_t target, float temperature, bool given) {
    t[0] = 0;
    t[1] = target;
    out[0] = out[1] = 42;
    const int32_t status = teamtr_log_probs(TEAMTR_CPU, 0, given ? p.address() : 0, dtype, rows, vocab, stride, 2, 0, t.address(),
                                            TEAMTR_I64, temperature, 0, out.address(), 0, 0);
    expect(status == TEAMTR_INVALID && teamtr_last_error()[0], "refused");
    expect(out[0] == 42 && out[1] == 42, "nothing written");
  };
  call(2, 8, 8, TEAMTR_F32, 8, 1, true);
  call(2, 8, 8, TEAMTR_F32, -1, 1, true);
  call(2, 8, 8, TEAMTR_F32, INT64_MIN, 1, true);
  call(2, 8, 7, TEAMTR_F32, 0, 1, true);
  call(2, 0, 8, TEAMTR_F32, 0, 1, true);
  call(-1, 8, 8, TEAMTR_F32, 0, 1, true);
  call(2, 8, 8, 9, 0, 1, true);
  call(2, 8, 8, TEAMTR_F32, 0, 0, true);
  call(2, 8, 8, TEAMTR_F32, 0, NAN, true);
  call(2, 8, 8, TEAMTR_F32, 0, INFINITY, true);
  call(2, 8, 8, TEAMTR_F32, 0, 1.1e30f, true);
  call(2, 8, 8, TEAMTR_F32, 0, 1, false);
  expect(std::strstr((teamtr_threads_set(0), teamtr_last_error()), "threads") != nullptr, "words name the argument");
}

}  // namespace

int main() {
  shapes();
  policy_loss();
  threads();
  refused();
  std::printf("C ABI: %d checks, %d failed\n", checks, failures);
  return failures ? 1 : 0;
}
