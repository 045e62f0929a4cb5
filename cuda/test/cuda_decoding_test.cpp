/*
 * The CUDA backend's kernels of a decoding step against the CPU's, which DecodingTest holds against the formulas in double; on device
 * 0 of a CUDA build or on the host in lockstep.
 *   cuda_decoding_test            all shapes
 *   cuda_decoding_test --small    few and short ones, for compute-sanitizer
 *
 * A row of attention has the same bits in a second run; when it is alone and a cluster shares it, and among many rows, when one block
 * computes it; elsewhere in the cache; and, on the host, when the threads of a block run from the last to the first. Only the new
 * column of a cache is written.
 */
#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "checks.h"

static std::mt19937 rng(20);
static double worst = 0; /* of f32 */

struct Numbers {
  int dtype;
  int64_t count;
  Mirrored<char> memory;
  Numbers(int dtype, int64_t count, float size, int skip = 0)
      : dtype(dtype), count(count), memory(count * bytes_of(dtype), 0, skip * bytes_of(dtype)) {
    static const std::vector<float> some = [] { /* a prime number of them, from another one on each time */
      std::normal_distribution<float> normal;
      std::vector<float> x(65537);
      for (float& e : x) e = normal(rng);
      return x;
    }();
    const uint32_t first = (uint32_t)rng();
    for (int64_t i = 0; i < count; i++) set(i, size * some[(first + i) % some.size()]);
    memory.upload();
  }
  void set(int64_t i, float f) {
    const uint32_t bits = bits_of(dtype, f);
    std::memcpy(memory.host.data() + i * bytes_of(dtype), &bits, bytes_of(dtype));
  }
  float get(int64_t i) const {
    uint32_t bits = 0;
    std::memcpy(&bits, memory.host.data() + i * bytes_of(dtype), bytes_of(dtype));
    return value_of(dtype, bits);
  }
  std::vector<char> bits(int64_t from, int64_t n) const {
    return {memory.host.data() + from * bytes_of(dtype), memory.host.data() + (from + n) * bytes_of(dtype)};
  }
  teamtr_address at(bool device) const { return device ? memory.on_device() : memory.on_host(); }
  void set_all(const Numbers& from) {
    memory.host = from.memory.host;
    memory.upload();
  }
};

/* Rounding of a result, and what sums of another order differ by. */
static double bound(int dtype, double size) { return (dtype == TEAMTR_F32 ? 1e-5 : dtype == TEAMTR_BF16 ? 8e-3 : 1e-3) * (size + 1e-3); }

static void near(int dtype, double got, double want, double size, const std::string& what) {
  const double error = std::fabs(got - want);
  const bool good = want != want ? got != got : error <= bound(dtype, size);
  expect(good, good ? "" : what + ": " + std::to_string(got) + ", expected " + std::to_string(want));
  if (dtype == TEAMTR_F32 && want == want) worst = std::max(worst, error / (size + 1e-3));
}

/* ---- norm and gate ---- */

static void norm_case(int dtype, int64_t rows, int64_t width, int skip) {
  const std::string name = "norm of " + std::to_string(width) + " dtype " + std::to_string(dtype) + " skip " + std::to_string(skip);
  const int64_t stride = width + skip;
  Numbers x(dtype, rows * stride, 2, skip), weight(dtype, width, 1, skip), y(dtype, rows * width, 1), want(dtype, rows * width, 1);
  std::vector<float> work(rows * width);
  expect_status(teamtr_rms_norm(TEAMTR_CPU, 0, dtype, x.at(false), rows, width, stride, weight.at(false), 1e-6, want.at(false), width,
                                reinterpret_cast<uintptr_t>(work.data())));
  expect_status(teamtr_rms_norm(0, 0, dtype, x.at(true), rows, width, stride, weight.at(true), 1e-6, y.at(true), width, 0));
  y.memory.download();
  for (int64_t i = 0; i < rows * width; i++) near(dtype, y.get(i), want.get(i), std::fabs(want.get(i)), name);
  Numbers one(dtype, width, 1); /* alone, aligned, in place */
  one.memory.host = x.bits((rows - 1) * stride, width);
  one.memory.upload();
  expect_status(teamtr_rms_norm(0, 0, dtype, one.at(true), 1, width, width, weight.at(true), 1e-6, one.at(true), width, 0));
  one.memory.download();
  expect(one.bits(0, width) == y.bits((rows - 1) * width, width), name + ": the same bits alone and in place");

  Numbers both(dtype, rows * (2 * width + skip), 4, skip);
  expect_status(teamtr_swiglu(TEAMTR_CPU, 0, dtype, both.at(false), rows, width, 2 * width + skip, want.at(false), width));
  expect_status(teamtr_swiglu(0, 0, dtype, both.at(true), rows, width, 2 * width + skip, y.at(true), width));
  y.memory.download();
  for (int64_t i = 0; i < rows * width; i++) near(dtype, y.get(i), want.get(i), std::fabs(want.get(i)), name + ", gate");
}

/* ---- attention ---- */

struct Shape {
  int64_t heads, kv_heads, d;
};

struct Attention {
  int dtype;
  Shape s;
  int64_t rows, room, window;
  bool norms;
  int skip;
  Numbers qkv, q_norm, k_norm, keys, values, y;
  Mirrored<int64_t> positions, starts;
  Mirrored<float> cosine, sine;
  int64_t table;

  Attention(int dtype, Shape s, const std::vector<int64_t>& at, const std::vector<int64_t>& from, int64_t room, int64_t window, bool norms,
            int skip = 0)
      : dtype(dtype), s(s), rows((int64_t)at.size()), room(room), window(window), norms(norms), skip(skip),
        qkv(dtype, rows * (s.heads + 2 * s.kv_heads) * s.d, 1, skip), q_norm(dtype, s.d, 1, skip), k_norm(dtype, s.d, 1, skip),
        keys(dtype, rows * s.kv_heads * room * s.d, 1, skip), values(dtype, rows * s.kv_heads * room * s.d, 1, skip),
        y(dtype, rows * s.heads * s.d, 1, skip), positions(at), starts(from), cosine(room * s.d), sine(room * s.d), table(room) {
    for (int64_t p = 0; p < room; p++)
      for (int64_t j = 0; j < s.d; j++) {
        const double angle = p * std::pow(1000, -2.0 * (j % (s.d / 2)) / s.d);
        cosine.host[p * s.d + j] = (float)std::cos(angle);
        sine.host[p * s.d + j] = (float)(j < s.d / 2 ? -std::sin(angle) : std::sin(angle));
      }
    cosine.upload();
    sine.upload();
  }
  void run(bool device) {
    const auto of = [device](const auto& v) { return device ? v.on_device() : v.on_host(); };
    expect_status(teamtr_attend(device ? 0 : TEAMTR_CPU, 0, dtype, qkv.at(device), rows, (s.heads + 2 * s.kv_heads) * s.d, s.heads,
                                s.kv_heads, s.d, norms ? q_norm.at(device) : 0, norms ? k_norm.at(device) : 0, 1e-6, of(cosine), of(sine),
                                table, of(positions), of(starts), window, keys.at(device), values.at(device), room, y.at(device),
                                s.heads * s.d));
    if (!device) return;
    for (Numbers* n : {&keys, &values, &y}) n->memory.download();
  }
  std::vector<char> row(int64_t r) const { return y.bits(r * s.heads * s.d, s.heads * s.d); }
};

/* Row `r` of an earlier call, computed alone in a cache where its columns begin at `start`, has the same bits. */
static void same_alone(Attention& all, int64_t r, int64_t start, const std::vector<char>& old_keys, const std::vector<char>& old_values,
                       const std::string& name) {
  const int64_t position = all.positions.host[r], bytes = bytes_of(all.dtype), each = all.s.d * bytes;
  Attention one(all.dtype, all.s, {position}, {start}, start + position + 1, all.window, all.norms, all.skip);
  one.q_norm.set_all(all.q_norm);
  one.k_norm.set_all(all.k_norm);
  const int64_t in = (all.s.heads + 2 * all.s.kv_heads) * all.s.d;
  one.qkv.memory.host = all.qkv.bits(r * in, in);
  one.qkv.memory.upload();
  for (int64_t g = 0; g < all.s.kv_heads; g++)
    for (int64_t c = 0; c < position; c++) {
      const int64_t from = ((r * all.s.kv_heads + g) * all.room + all.starts.host[r] + c) * each, to = (g * one.room + start + c) * each;
      std::copy_n(old_keys.begin() + from, each, one.keys.memory.host.begin() + to);
      std::copy_n(old_values.begin() + from, each, one.values.memory.host.begin() + to);
    }
  one.keys.memory.upload();
  one.values.memory.upload();
  const size_t tables = std::min(one.cosine.host.size(), all.cosine.host.size()); /* one has more columns, and reads no other position */
  std::copy_n(all.cosine.host.begin(), tables, one.cosine.host.begin());
  std::copy_n(all.sine.host.begin(), tables, one.sine.host.begin());
  one.cosine.upload();
  one.sine.upload();
  one.run(true);
  expect(one.row(0) == all.row(r), name + ": other bits of row " + std::to_string(r) + " alone");
}

static void attention_case(int dtype, Shape s, const std::vector<int64_t>& at, const std::vector<int64_t>& from, int64_t room, int64_t window,
                           bool norms, int skip) {
  const std::string name = "attention dtype " + std::to_string(dtype) + " heads " + std::to_string(s.heads) + "/" +
                           std::to_string(s.kv_heads) + " of " + std::to_string(s.d) + " room " + std::to_string(room) + " window " +
                           std::to_string(window) + " skip " + std::to_string(skip);
  Attention a(dtype, s, at, from, room, window, norms, skip);
  const std::vector<char> old_keys = a.keys.memory.host, old_values = a.values.memory.host;
  a.run(false);
  Numbers keys(dtype, a.keys.count, 1), values(dtype, a.values.count, 1), y(dtype, a.y.count, 1);
  keys.memory.host = a.keys.memory.host;
  values.memory.host = a.values.memory.host;
  y.memory.host = a.y.memory.host;
  a.run(true);
  for (int64_t i = 0; i < y.count; i++) near(dtype, a.y.get(i), y.get(i), 3, name);
  for (int64_t r = 0; r < a.rows; r++)
    for (int64_t g = 0; g < s.kv_heads; g++)
      for (int64_t c = 0; c < room; c++) {
        const int64_t i = ((r * s.kv_heads + g) * room + c) * s.d;
        if (c == a.positions.host[r] + a.starts.host[r])
          for (int64_t e = i; e < i + s.d; e++) near(dtype, a.keys.get(e), keys.get(e), 4, name + ", key");
        else if (!std::equal(old_keys.begin() + i * bytes_of(dtype), old_keys.begin() + (i + s.d) * bytes_of(dtype),
                             a.keys.memory.host.begin() + i * bytes_of(dtype)))
          expect(false, name + ": another column was written");
      }
  expect(a.values.memory.host == values.memory.host, name + ", values");

  const std::vector<char> first = a.y.memory.host;
  const auto again = [&](const char* how) {
    a.keys.memory.host = old_keys;
    a.values.memory.host = old_values;
    a.keys.memory.upload();
    a.values.memory.upload();
    a.run(true);
    expect(a.y.memory.host == first, name + ": other bits " + how);
  };
  turn_backwards(true);
  again("backwards");
  turn_backwards(false);
  for (const int blocks : {1, 4}) {
    largest_cluster(blocks);
    again("without clusters of eight");
  }
  largest_cluster(8);
  for (int64_t r = 0; r < std::min<int64_t>(a.rows, 5); r++) {
    same_alone(a, r, 0, old_keys, old_values, name);
    same_alone(a, r, 9, old_keys, old_values, name);
  }
}

static void bad_rows(int dtype) {
  Attention a(dtype, {2, 1, 64}, {3, -1, 300, 9, 5, INT64_MAX}, {1, 0, 0, 295, -1, 1}, 300, 0, true);
  const std::vector<char> old_keys = a.keys.memory.host, old_values = a.values.memory.host;
  a.run(true);
  for (int64_t r = 0; r < a.rows; r++)
    for (int64_t e = 0; e < 128; e++) expect(std::isnan(a.y.get(r * 128 + e)) == (r > 0), "a row whose column is not there");
  const int64_t row = 300 * 64 * bytes_of(dtype);
  expect(std::equal(old_keys.begin() + row, old_keys.end(), a.keys.memory.host.begin() + row), "its keys");
  expect(std::equal(old_values.begin() + row, old_values.end(), a.values.memory.host.begin() + row), "its values");
}

int main(int argc, char** argv) {
  const bool small = argc > 1 && std::string(argv[1]) == "--small";
  if (teamtr_cuda_count() == 0) {
    std::printf("no device: %s\n", teamtr_last_error());
    return 2;
  }
  std::printf("device 0: %s\n", teamtr_cuda_device(0));
  for (int dtype : {TEAMTR_F32, TEAMTR_BF16, TEAMTR_F16}) {
    for (int64_t width : small ? std::vector<int64_t>{7, 1024} : std::vector<int64_t>{1, 7, 64, 1000, 1024, 4096, 5120, 18944})
      for (int skip : {0, 1}) norm_case(dtype, small ? 2 : 11, width, skip);
    /* heads of published models, then heads that are no whole vectors */
    for (const Shape& s : small ? std::vector<Shape>{{4, 2, 128}, {3, 1, 20}}
                                : std::vector<Shape>{{4, 2, 128}, {2, 2, 64}, {3, 1, 80}, {2, 1, 96}, {8, 2, 128}, {7, 1, 64}, {2, 1, 256}, {1, 1, 32},
                                                     {3, 1, 20}, {2, 1, 258}, {1, 1, 1024}}) {
      attention_case(dtype, s, {40, 0, 33}, {1, 41, 8}, 42, 0, true, 0);
      attention_case(dtype, s, {300, 256, 257, 0, 31}, {0, 44, 43, 300, 269}, 301, 0, s.d % 3 == 0, 0);
      if (small) continue;
      attention_case(dtype, s, {300, 256, 257, 0, 31}, {0, 44, 43, 300, 269}, 301, 70, true, 1);
    }
    attention_case(dtype, {2, 1, 64}, {small ? 600 : 2600, 2050, 1792}, {0, 5, 7}, 2601, 0, true, 0);
    if (!small) attention_case(dtype, {2, 1, 64}, {2600, 2050, 1792}, {0, 5, 7}, 2601, 2048, true, 0);
    bad_rows(dtype);
  }
  /* more rows than a device has clusters for */
  std::vector<int64_t> at(600), from(600, 0);
  for (size_t r = 0; r < at.size(); r++) at[r] = r == 3 ? 270 : (int64_t)(r % 5);
#if !defined(TEAMTR_TEST_ON_GPU)
  at.resize(270), from.resize(270);
#endif
  if (!small) attention_case(TEAMTR_BF16, {2, 1, 64}, at, from, 271, 0, true, 0);
  std::printf("worst of f32: %.1e of its numbers' size\n", worst);
  return report_checks();
}
