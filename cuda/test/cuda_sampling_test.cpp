/*
 * The CUDA backend's sampling against the CPU's, which native/test/sampling_test.cpp holds against the definition written a second
 * time; on device 0 of a CUDA build or on the host in lockstep.
 *   cuda_sampling_test            all shapes
 *   cuda_sampling_test --small    few and short ones, for compute-sanitizer
 *
 * Both draw the same tokens, except where the rounding of f32 sums decides, which are a few draws of a million. A row's results
 * have the same bits when it is alone and a cluster shares it, and among many rows, when one block computes it; in unaligned rows;
 * and, on the host, when the threads of a block run from the last to the first. Log-probs have the bits of teamtr_log_probs.
 */
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "checks.h"

static const float kInf = std::numeric_limits<float>::infinity();
static std::mt19937_64 rng(14);
static int64_t draws = 0, differing = 0;

static float normal() {
  static std::normal_distribution<float> n;
  return n(rng);
}
struct Filters {
  int64_t top_k;
  float top_p, min_p;
};

struct Results {
  std::vector<int64_t> tokens;
  std::vector<float> log_probs, kept;
};

/* Rows of numbers that bf16 holds, in any dtype, some elements apart, the first of them `skip` behind an aligned address. */
struct Rows {
  int32_t dtype;
  int64_t rows, vocab, stride;
  Mirrored<uint16_t> half;
  Mirrored<float> full;

  Rows(int32_t dtype, const std::vector<std::vector<float>>& x, int64_t padding = 0, size_t skip = 0)
      : dtype(dtype), rows((int64_t)x.size()), vocab((int64_t)x[0].size()), stride(vocab + padding),
        half(dtype == TEAMTR_F32 ? 0 : rows * stride, 0x7fff, skip), full(dtype == TEAMTR_F32 ? rows * stride : 0, NAN, skip) {
    for (int64_t r = 0; r < rows; r++)
      for (int64_t v = 0; v < vocab; v++) {
        uint32_t u;
        std::memcpy(&u, &x[r][v], 4);
        if (dtype == TEAMTR_F32) full.host[r * stride + v] = x[r][v];
        else if (dtype == TEAMTR_BF16) half.host[r * stride + v] = (uint16_t)(u >> 16);
        else half.host[r * stride + v] = to_f16(u);
      }
    half.upload();
    full.upload();
  }
  static uint16_t to_f16(uint32_t u) { /* of normal numbers of 7 bits, infinities, NaN and 0 */
    const uint32_t sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
    if (magnitude >= 0x7f800000) return (uint16_t)(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
    if (magnitude < 0x38800000) return (uint16_t)sign;
    if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7bff);
    return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
  }
  teamtr_address at(bool device) const {
    if (dtype == TEAMTR_F32) return device ? full.on_device() : full.on_host();
    return device ? half.on_device() : half.on_host();
  }

  Results sample(bool device, float temperature, const Filters& f, uint64_t seed, int64_t first_id, bool kept) const {
    Mirrored<int64_t> tokens(rows, -7), ids(rows);
    Mirrored<float> lp(rows, -7), lp_kept(rows, -7);
    for (int64_t r = 0; r < rows; r++) ids.host[r] = first_id + r;
    ids.upload();
    const auto of = [device](const auto& v) { return device ? v.on_device() : v.on_host(); };
    int32_t status = teamtr_sample(device ? 0 : TEAMTR_CPU, 0, at(device), dtype, rows, vocab, stride, rows, 0, temperature, 0, f.top_k,
                                   f.top_p, f.min_p, seed, 5, of(ids), of(tokens), TEAMTR_I64, of(lp), kept ? of(lp_kept) : 0);
    if (device && status == TEAMTR_OK) status = teamtr_cuda_synchronize(0, 0);
    expect(status == TEAMTR_OK, status == TEAMTR_OK ? "" : teamtr_last_error());
    if (device) {
      tokens.download();
      lp.download();
      lp_kept.download();
    }
    return {tokens.host, lp.host, lp_kept.host};
  }

  /* Of the tokens, by the device's kernel for log-probs; where nothing was drawn, of an index that is out of range. */
  std::vector<float> log_probs(float temperature, const std::vector<int64_t>& tokens) const {
    Mirrored<int64_t> targets(tokens);
    Mirrored<float> lp(rows, -7);
    targets.upload();
    int32_t status = teamtr_log_probs(0, 0, at(true), dtype, rows, vocab, stride, rows, 0, targets.on_device(), TEAMTR_I64, temperature, 0,
                                      lp.on_device(), 0, 0);
    if (status == TEAMTR_OK) status = teamtr_cuda_synchronize(0, 0);
    expect(status == TEAMTR_OK, status == TEAMTR_OK ? "" : teamtr_last_error());
    lp.download();
    return lp.host;
  }
};

static bool same_bits(float a, float b) { return std::memcmp(&a, &b, 4) == 0; }
static bool same(const Results& a, int64_t r, const Results& b, int64_t s) {
  return a.tokens[r] == b.tokens[s] && same_bits(a.log_probs[r], b.log_probs[s]) && same_bits(a.kept[r], b.kept[s]);
}
static bool near(float a, float b) {
  return a == b || (std::isnan(a) && std::isnan(b)) || std::fabs((double)a - b) <= 4e-6 * (1 + std::fabs((double)b));
}

enum Shape { kWide, kFlat, kPeaked, kTied, kMasked, kShapes };
static std::vector<float> row_of(int shape, int64_t vocab) {
  std::vector<float> x(vocab);
  for (float& e : x) {
    const float z = normal();
    e = shape == kFlat ? 0.1f * z : shape == kPeaked ? 2 * z - 12 : shape == kTied ? std::round(z) : 3 * z;
    if (shape == kMasked && rng() % 3) e = -kInf;
    uint32_t u;
    std::memcpy(&u, &e, 4);
    u &= 0xffff0000u;
    std::memcpy(&e, &u, 4);
  }
  if (shape == kPeaked || shape == kMasked) x[rng() % vocab] = 5;
  return x;
}

static void compare(const std::vector<std::vector<float>>& x, float temperature, const Filters& f, bool kept, const std::string& what) {
  const uint64_t seed = rng();
  const int64_t id = (int64_t)(rng() >> 2), rows = (int64_t)x.size();
  for (const int32_t dtype : {TEAMTR_BF16, TEAMTR_F32, TEAMTR_F16}) {
    const std::string which = what + ", dtype " + std::to_string(dtype);
    const Rows all(dtype, x);
    const Results cpu = all.sample(false, temperature, f, seed, id, kept), gpu = all.sample(true, temperature, f, seed, id, kept);
    for (int64_t r = 0; r < rows; r++) {
      draws++;
      if (cpu.tokens[r] != gpu.tokens[r]) {
        differing++;
        continue;
      }
      expect(near(gpu.log_probs[r], cpu.log_probs[r]), "log-prob, " + which);
      expect(near(gpu.kept[r], cpu.kept[r]), "log-prob among the kept, " + which);
    }
    const std::vector<float> scored = all.log_probs(temperature == 0 ? 1 : temperature, gpu.tokens);
    for (int64_t r = 0; r < rows; r++) {
      const bool nothing = std::isnan(scored[r]) && std::isnan(gpu.log_probs[r]) && gpu.tokens[r] == -1;
      expect(nothing || same_bits(scored[r], gpu.log_probs[r]), "the bits of log-probs, " + which);
      if (kept && !f.top_k && f.top_p == 1 && f.min_p == 0 && temperature != 0)
        expect(nothing || same_bits(scored[r], gpu.kept[r]), "the bits of log-probs among all, " + which);
    }
    turn_backwards(true);
    largest_cluster(1);
    const Results again = all.sample(true, temperature, f, seed, id, kept);
    turn_backwards(false);
    largest_cluster(2);
    const Results unaligned = Rows(dtype, x, 3, 1).sample(true, temperature, f, seed, id, kept);
    const Results alone = Rows(dtype, {x[rows - 1]}).sample(true, temperature, f, seed, id + rows - 1, kept);
    largest_cluster(8);
    for (int64_t r = 0; r < rows; r++) {
      expect(same(again, r, gpu, r), "the same bits again, " + which);
      expect(same(unaligned, r, gpu, r), "the same bits of rows that are not aligned, " + which);
    }
    expect(same(alone, 0, gpu, rows - 1), "the same bits of a row alone, " + which);
    if (kept) expect(all.sample(true, temperature, f, seed, id, false).tokens == gpu.tokens, "whatever is asked for, " + which);
  }
}

static void special_rows(const Filters& f) {
  for (const int64_t vocab : {1, 300, 5000}) {
    std::vector<std::vector<float>> x(6, std::vector<float>(vocab, 0.5f));
    x[1][vocab / 2] = NAN;
    x[2][vocab / 2] = kInf;
    x[3].assign(vocab, -kInf);
    x[4].assign(vocab, -kInf), x[4][vocab - 1] = -2.0f;
    for (float& e : x[5]) e = rng() % 2 ? -kInf : 1.0f;
    x[5][0] = 1;
    for (const float t : {1.0f, 0.0f, 1e-30f, 1e30f}) compare(x, t, f, true, "special rows, T " + std::to_string(t));
    const Rows all(TEAMTR_F32, x);
    const Results s = all.sample(true, 1, f, 1, 0, true);
    for (int r = 1; r < 4; r++) expect(s.tokens[r] == -1 && std::isnan(s.log_probs[r]) && std::isnan(s.kept[r]), "no distribution");
    expect(s.tokens[4] == vocab - 1 && s.log_probs[4] == 0 && s.kept[4] == 0, "the only token");
  }
  /* Differences that f32 does not hold, and products with 1 / T that it does not hold. */
  for (const float size : {3e38f, 1e30f, 1e6f}) {
    std::vector<float> x(3000, -size);
    x[1234] = size, x[2345] = size;
    compare({x}, 1, f, true, "overflow");
    compare({x}, 1e-6f, f, true, "overflow, cold");
  }
}

int main(int argc, char** argv) {
  const bool small = argc > 1 && !std::strcmp(argv[1], "--small");
  const std::vector<Filters> filters = {{0, 1, 0},      {0, 0.95f, 0},      {0, 0.3f, 0},     {50, 1, 0},      {2000, 1, 0},
                                        {0, 1, 0.05f},  {20, 0.9f, 0.001f}, {0, 0.999f, 0.2f}, {0, 1e-6f, 0}, {1, 1, 0}};
  struct Size {
    int64_t vocab, rows;
  };
  const std::vector<Size> sizes = small ? std::vector<Size>{{7, 3}, {2500, 9}}
                                        : std::vector<Size>{{1, 3}, {9, 20}, {1000, 30}, {1024, 9}, {2048, 9}, {5003, 20}, {20000, 9}, {70001, 2}};
  for (const Size& size : sizes)
    for (size_t i = 0; i < filters.size(); i++) {
      const Filters& f = filters[i];
      std::vector<std::vector<float>> x;
      for (int64_t r = 0; r < size.rows; r++) x.push_back(row_of((int)((r + i) % kShapes), size.vocab));
      const std::string what = "V " + std::to_string(size.vocab) + ", k " + std::to_string(f.top_k) + ", p " + std::to_string(f.top_p) +
                               ", m " + std::to_string(f.min_p);
      for (const bool kept : {false, true}) compare(x, i % 3 == 1 ? 0.7f : i % 3 == 2 ? 1.5f : 1.0f, f, kept, what);
    }
  if (!small) { /* more rows than multiprocessors: a block has each, and a cluster has the last one alone */
    std::vector<std::vector<float>> x;
    for (int r = 0; r < 140; r++) x.push_back(row_of(r % kShapes, 20000));
    for (const Filters& f : {Filters{0, 1, 0}, Filters{0, 0.9f, 0}}) compare(x, 1, f, false, "many rows");
  }
  special_rows({0, 1, 0});
  special_rows({3, 0.9f, 0.1f});
  special_rows({0, 0.9f, 0});
  if (!small) compare({row_of(kWide, 700000)}, 1, {0, 0.95f, 0}, true, "no room for a table");
  if (!small) compare({row_of(kWide, 9000000)}, 1, {0, 1, 0}, true, "records in two parts");
  expect(differing * 10000 <= draws, "tokens that differ from the CPU's: " + std::to_string(differing));
  std::printf("cuda_sampling_test: %lld checks, %lld draws, %lld of them another token than the CPU's, %lld failures\n", (long long)checks,
              (long long)draws, (long long)differing, (long long)failures);
  return failures != 0;
}
