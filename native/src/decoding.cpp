/*
 * A decoder's layers for a few rows of one new token each: the checks, and how the work is divided among threads on the CPU, where
 * decoding.inl computes one tile or row. On a device, cuda/decoding.cu computes all.
 *
 * Contract in teamtr.h. Nothing is allocated.
 */
#include <algorithm>

#include "abi.h"

using namespace teamtr;

namespace {

/* The least work that is given to another thread: multiplications, and elements in elementwise layers. */
constexpr int64_t kProducts = 1 << 21, kElements = 1 << 15;
constexpr int64_t kOutputs = 48; /* a multiple of every tile and panel */

int32_t check_dtype(int32_t dtype) {
  return dtype >= TEAMTR_F32 && dtype <= TEAMTR_F16 ? TEAMTR_OK
                                                    : fail(TEAMTR_INVALID, "dtype %d is none of f32 (0), bf16 (1), f16 (2)", dtype);
}

int32_t check_size(const char* name, int64_t size, int64_t least) {
  return size >= least && size <= INT32_MAX ? TEAMTR_OK
                                            : fail(TEAMTR_INVALID, "%s: %lld is not in %lld..2147483647", name, (long long)size, (long long)least);
}

int32_t check_stride(const char* name, int64_t stride, int64_t width) {
  return stride >= width ? TEAMTR_OK
                         : fail(TEAMTR_INVALID, "%s: %lld is less than the %lld elements of a row", name, (long long)stride, (long long)width);
}

int64_t rows_of(int64_t pieces, int64_t each) { return std::max<int64_t>(1, pieces / std::max<int64_t>(1, each)); }

void multiply(int32_t dtype, const Linear& a, int64_t out) {
  const auto linear = row_kernels().linear[dtype];
  const int64_t grain = (rows_of(kProducts, a.rows * a.in) + kOutputs - 1) / kOutputs * kOutputs;
  parallel_for((out + grain - 1) / grain, 1,
               [&](int64_t begin, int64_t end) { linear(a, begin * grain, std::min(end * grain, out)); });
}

}  // namespace

extern "C" {

int32_t teamtr_linear(int32_t dtype, teamtr_address x, int64_t rows, int64_t in, int64_t x_stride, teamtr_address weight,
                      int64_t out, teamtr_address bias, teamtr_address lora_a, teamtr_address lora_b, int64_t rank,
                      double lora_scale, teamtr_address y, int32_t y_type, int64_t y_stride, int32_t add, teamtr_address work) {
  TEAMTR_TRY(check_dtype(dtype));
  TEAMTR_TRY(check_size("rows", rows, 0));
  TEAMTR_TRY(check_size("in", in, 1));
  TEAMTR_TRY(check_size("out", out, 1));
  TEAMTR_TRY(check_size("rank", rank, 0));
  TEAMTR_TRY(check_stride("x's stride", x_stride, in));
  TEAMTR_TRY(check_stride("y's stride", y_stride, out));
  if (y_type != dtype && y_type != TEAMTR_F32) return fail(TEAMTR_INVALID, "y: dtype %d is neither x's %d nor f32 (0)", y_type, dtype);
  if (add && y_type != dtype) return fail(TEAMTR_INVALID, "y: only one of x's dtype is added to");
  TEAMTR_TRY(check_given("x", x, rows));
  TEAMTR_TRY(check_given("weight", weight, out));
  TEAMTR_TRY(check_given("loraA", lora_a, rank));
  TEAMTR_TRY(check_given("loraB", lora_b, rank));
  TEAMTR_TRY(check_given("y", y, rows));
  if (dtype != TEAMTR_F32 || rank) TEAMTR_TRY(check_given("work", work, rows));
  float* low = at<float>(work);
  const float* wide = at<float>(x);
  if (dtype != TEAMTR_F32) {
    const auto widen = row_kernels().widen[dtype];
    low = at<float>(work) + rows * in;
    parallel_for(rows, rows_of(kElements, in), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; r++)
        widen(at<char>(x) + r * x_stride * (int64_t)bytes_of(dtype), in, at<float>(work) + r * in);
    });
    wide = at<float>(work);
    x_stride = in;
  }
  if (rank)
    multiply(dtype, {wide, rows, in, x_stride, at<void>(lora_a), nullptr, nullptr, nullptr, 0, lora_scale, low, rank, true, false}, rank);
  multiply(dtype, {wide, rows, in, x_stride, at<void>(weight), at<void>(bias), low, at<void>(lora_b), rank, 1, at<void>(y), y_stride,
                   y_type != dtype, add != 0}, out);
  return TEAMTR_OK;
}

int32_t teamtr_rms_norm(int32_t device, teamtr_address stream, int32_t dtype, teamtr_address x, int64_t rows, int64_t width,
                        int64_t x_stride, teamtr_address weight, double eps, teamtr_address y, int64_t y_stride, teamtr_address work) {
  const Device dev{device, stream};
  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check_dtype(dtype));
  TEAMTR_TRY(check_size("rows", rows, 0));
  TEAMTR_TRY(check_size("width", width, 1));
  TEAMTR_TRY(check_stride("x's stride", x_stride, width));
  TEAMTR_TRY(check_stride("y's stride", y_stride, width));
  TEAMTR_TRY(check_given("x", x, rows));
  TEAMTR_TRY(check_given("weight", weight, width));
  TEAMTR_TRY(check_given("y", y, rows));
  if (!dev.on_cpu()) return cuda::rms_norm(dev, dtype, at<void>(x), rows, width, x_stride, at<void>(weight), eps, at<void>(y), y_stride);
  TEAMTR_TRY(check_given("work", work, rows));
  const auto norm = row_kernels().rms_norm[dtype];
  const int64_t bytes = (int64_t)bytes_of(dtype);
  parallel_for(rows, rows_of(kElements, width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++)
      norm(at<char>(x) + r * x_stride * bytes, width, at<void>(weight), eps, at<char>(y) + r * y_stride * bytes, at<float>(work) + r * width);
  });
  return TEAMTR_OK;
}

int32_t teamtr_swiglu(int32_t device, teamtr_address stream, int32_t dtype, teamtr_address gate_up, int64_t rows, int64_t width,
                      int64_t stride, teamtr_address y, int64_t y_stride) {
  const Device dev{device, stream};
  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check_dtype(dtype));
  TEAMTR_TRY(check_size("rows", rows, 0));
  TEAMTR_TRY(check_size("width", width, 1));
  TEAMTR_TRY(check_stride("gateUp's stride", stride, 2 * width));
  TEAMTR_TRY(check_stride("y's stride", y_stride, width));
  TEAMTR_TRY(check_given("gateUp", gate_up, rows));
  TEAMTR_TRY(check_given("y", y, rows));
  if (!dev.on_cpu()) return cuda::swiglu(dev, dtype, at<void>(gate_up), rows, width, stride, at<void>(y), y_stride);
  const auto swiglu = row_kernels().swiglu[dtype];
  const int64_t bytes = (int64_t)bytes_of(dtype);
  parallel_for(rows, rows_of(kElements, width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const char* gate = at<char>(gate_up) + r * stride * bytes;
      swiglu(gate, gate + width * bytes, width, at<char>(y) + r * y_stride * bytes);
    }
  });
  return TEAMTR_OK;
}

int32_t teamtr_attend(int32_t device, teamtr_address stream, int32_t dtype, teamtr_address qkv, int64_t rows, int64_t qkv_stride,
                      int64_t heads, int64_t kv_heads, int64_t head_dim, teamtr_address q_norm, teamtr_address k_norm, double eps,
                      teamtr_address cosine, teamtr_address sine, int64_t table_rows, teamtr_address positions, teamtr_address starts,
                      int64_t window, teamtr_address keys, teamtr_address values, int64_t room, teamtr_address y, int64_t y_stride) {
  const Device dev{device, stream};
  TEAMTR_TRY(check(dev));
  TEAMTR_TRY(check_dtype(dtype));
  TEAMTR_TRY(check_size("rows", rows, 0));
  TEAMTR_TRY(check_size("heads", heads, 1));
  TEAMTR_TRY(check_size("kvHeads", kv_heads, 1));
  TEAMTR_TRY(check_size("window", window, 0));
  TEAMTR_TRY(check_size("room", room, 1));
  if (heads % kv_heads) return fail(TEAMTR_INVALID, "heads: %lld is no multiple of kvHeads, %lld", (long long)heads, (long long)kv_heads);
  if (head_dim < 2 || head_dim % 2 || head_dim > kMaxHeadDim)
    return fail(TEAMTR_INVALID, "headDim: %lld is no even number of 2..%lld", (long long)head_dim, (long long)kMaxHeadDim);
  TEAMTR_TRY(check_stride("qkv's stride", qkv_stride, (heads + 2 * kv_heads) * head_dim));
  TEAMTR_TRY(check_stride("y's stride", y_stride, heads * head_dim));
  TEAMTR_TRY(check_given("qkv", qkv, rows));
  TEAMTR_TRY(check_given("cosine", cosine, rows));
  TEAMTR_TRY(check_given("sine", sine, rows));
  TEAMTR_TRY(check_given("positions", positions, rows));
  TEAMTR_TRY(check_given("starts", starts, rows));
  TEAMTR_TRY(check_given("keys", keys, rows));
  TEAMTR_TRY(check_given("values", values, rows));
  TEAMTR_TRY(check_given("y", y, rows));
  const Attend a{at<void>(qkv), rows, qkv_stride, heads, kv_heads, head_dim, at<void>(q_norm), at<void>(k_norm), eps,
                 at<float>(cosine), at<float>(sine), table_rows, at<int64_t>(positions), at<int64_t>(starts), window, at<void>(keys),
                 at<void>(values), room, at<void>(y), y_stride};
  if (!dev.on_cpu()) return cuda::attend(dev, dtype, a);
  int64_t columns = 1; /* of the longest row */
  for (int64_t r = 0; r < rows; r++) {
    const int64_t p = a.positions[r], s = a.starts[r];
    if (p < 0 || p >= table_rows)
      return fail(TEAMTR_INVALID, "positions[%lld] is %lld: not in 0..%lld", (long long)r, (long long)p, (long long)(table_rows - 1));
    if (s < 0 || s >= room - p)
      return fail(TEAMTR_INVALID, "starts[%lld] is %lld: with position %lld not in 0..%lld", (long long)r, (long long)s, (long long)p,
                  (long long)(room - 1 - p));
    columns = std::max(columns, p + 1);
  }
  const auto attend = row_kernels().attend[dtype];
  parallel_for(rows * kv_heads, rows_of(kProducts / 8, 2 * columns * head_dim * (heads / kv_heads)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) attend(a, i / kv_heads, i % kv_heads);
  });
  return TEAMTR_OK;
}

}  // extern "C"
