/*
 * Sixteen f32 lanes as four of the compilers' generic four-lane vectors (GCC and Clang: SSE2 on x86-64). No FMA, so
 * results differ from simd_avx512.h in the last bits. See there for the meaning of each name.
 */
#ifndef TEAMTR_SIMD_PORTABLE_H
#define TEAMTR_SIMD_PORTABLE_H

#include <cstdint>
#include <cstring>

#include "inline.h"

namespace teamtr {
namespace TEAMTR_ISA {

typedef float f4 __attribute__((vector_size(16)));
typedef uint32_t u4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

struct F { f4 a, b, c, d; };
struct U { u4 a, b, c, d; };
struct M { u4 a, b, c, d; }; /* all ones or all zeros per lane */

/* op(x) or op(x, y) on each of the four quarters */
#define TEAMTR_EACH1(T, op) return T{op(x.a), op(x.b), op(x.c), op(x.d)}
#define TEAMTR_EACH2(T, op) return T{op(x.a, y.a), op(x.b, y.b), op(x.c, y.c), op(x.d, y.d)}

TEAMTR_INLINE f4 splat(float x) { return f4{x, x, x, x}; }
TEAMTR_INLINE u4 splat_u(uint32_t x) { return u4{x, x, x, x}; }
TEAMTR_INLINE u4 pick(u4 m, u4 yes, u4 no) { return (yes & m) | (no & ~m); }
TEAMTR_INLINE f4 pick(u4 m, f4 yes, f4 no) { return (f4)pick(m, (u4)yes, (u4)no); }

TEAMTR_INLINE F set(float x) { const f4 v = splat(x); return {v, v, v, v}; }
TEAMTR_INLINE F load(const float* p) { F r; std::memcpy(&r, p, 64); return r; }
TEAMTR_INLINE void store(float* p, F x) { std::memcpy(p, &x, 64); }
TEAMTR_INLINE U load_u(const uint32_t* p) { U r; std::memcpy(&r, p, 64); return r; }
TEAMTR_INLINE void store_u(uint32_t* p, U x) { std::memcpy(p, &x, 64); }

TEAMTR_INLINE U widen(const uint16_t* p) {
  uint32_t w[16];
  for (int i = 0; i < 16; i++) w[i] = p[i];
  return load_u(w);
}
TEAMTR_INLINE void store_u16(uint16_t* p, U x) {
  uint32_t w[16];
  store_u(w, x);
  for (int i = 0; i < 16; i++) p[i] = (uint16_t)w[i];
}
TEAMTR_INLINE f4 from_bf16(u4 h) { return (f4)(h << 16); }
TEAMTR_INLINE F load_bf16(const uint16_t* p) { const U x = widen(p); TEAMTR_EACH1(F, from_bf16); }
TEAMTR_INLINE f4 from_f16(u4 h) {
  const u4 sign = (h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 0x3ff;
  const u4 normal = ((e + 112) << 23) | (m << 13);
  /* subnormal: 2^-14 + m * 2^-24, less 2^-14 */
  const f4 least = splat(6.103515625e-5f);
  const u4 subnormal = (u4)((f4)((u4)least | (m << 13)) - least);
  const u4 special = splat_u(0x7f800000u) | (m << 13) | ((u4)(m != 0) & 0x400000u);
  return (f4)(sign | pick((u4)(e == 0), subnormal, pick((u4)(e == 31), special, normal)));
}
TEAMTR_INLINE F load_f16(const uint16_t* p) { const U x = widen(p); TEAMTR_EACH1(F, from_f16); }
TEAMTR_INLINE u4 to_f16(f4 f) { /* round to nearest even */
  const u4 u = (u4)f, sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;
  const u4 nan = ((a >> 13) & 0x3ff) | 0x7e00;
  /* below 2^-14: adding 1/2 leaves m * 2^-24, rounded, in the low bits */
  const u4 subnormal = (u4)((f4)a + splat(0.5f)) - 0x3f000000u;
  const u4 normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1)) >> 13;
  const u4 finite = pick((u4)(a < 0x38800000u), subnormal, normal);
  return sign | pick((u4)(a > 0x7f800000u), nan, pick((u4)(a >= 0x477ff000u), splat_u(0x7c00), finite));
}
TEAMTR_INLINE U to_f16(F x) { TEAMTR_EACH1(U, to_f16); }
TEAMTR_INLINE void store_f16(uint16_t* p, F x) { store_u16(p, to_f16(x)); }

#define TEAMTR_OPERATOR(name, T, V, op)                    \
  TEAMTR_INLINE V name##4(V x, V y) { return x op y; }     \
  TEAMTR_INLINE T name(T x, T y) { TEAMTR_EACH2(T, name##4); }
TEAMTR_OPERATOR(add, F, f4, +)
TEAMTR_OPERATOR(sub, F, f4, -)
TEAMTR_OPERATOR(mul, F, f4, *)
TEAMTR_OPERATOR(div, F, f4, /)
TEAMTR_OPERATOR(add_u, U, u4, +)
TEAMTR_OPERATOR(sub_u, U, u4, -)
TEAMTR_OPERATOR(and_u, U, u4, &)
TEAMTR_OPERATOR(or_u, U, u4, |)
TEAMTR_OPERATOR(xor_u, U, u4, ^)
TEAMTR_OPERATOR(both, M, u4, &)
TEAMTR_OPERATOR(either, M, u4, |)
#undef TEAMTR_OPERATOR
#define TEAMTR_COMPARISON(name, op)                              \
  TEAMTR_INLINE u4 name##4(f4 x, f4 y) { return (u4)(x op y); }  \
  TEAMTR_INLINE M name(F x, F y) { TEAMTR_EACH2(M, name##4); }
TEAMTR_COMPARISON(eq, ==)
TEAMTR_COMPARISON(le, <=)
TEAMTR_COMPARISON(lt, <)
TEAMTR_COMPARISON(ge, >=)
TEAMTR_COMPARISON(gt, >)
#undef TEAMTR_COMPARISON

TEAMTR_INLINE F fma(F x, F y, F z) { return add(mul(x, y), z); }
TEAMTR_INLINE f4 max4(f4 x, f4 y) { return pick(gt4(x, y), x, y); }
TEAMTR_INLINE f4 min4(f4 x, f4 y) { return pick(lt4(x, y), x, y); }
TEAMTR_INLINE F max(F x, F y) { TEAMTR_EACH2(F, max4); }
TEAMTR_INLINE F min(F x, F y) { TEAMTR_EACH2(F, min4); }
TEAMTR_INLINE f4 abs4(f4 x) { return (f4)((u4)x & 0x7fffffffu); }
TEAMTR_INLINE F abs(F x) { TEAMTR_EACH1(F, abs4); }
/* |x| < 2^22: adding and taking away 1.5 * 2^23 rounds to nearest even */
TEAMTR_INLINE f4 round4(f4 x) { return (x + 12582912.0f) - 12582912.0f; }
TEAMTR_INLINE F round(F x) { TEAMTR_EACH1(F, round4); }
/* n + 1.5 * 2^23 holds n in its low bits; the product keeps a NaN in x a NaN */
TEAMTR_INLINE f4 scale24(f4 x, f4 y) { return x * (f4)(((u4)(y + 12582912.0f) << 23) + 0x3f800000u); }
TEAMTR_INLINE F scale2(F x, F y) { TEAMTR_EACH2(F, scale24); }

TEAMTR_INLINE uint32_t bits4(u4 m) { return (m[0] & 1) | (m[1] & 2) | (m[2] & 4) | (m[3] & 8); }
TEAMTR_INLINE uint32_t bits(M m) { return bits4(m.a) | bits4(m.b) << 4 | bits4(m.c) << 8 | bits4(m.d) << 12; }
TEAMTR_INLINE bool any(M m) {
  const u4 o = (m.a | m.b) | (m.c | m.d);
  return (o[0] | o[1] | o[2] | o[3]) != 0;
}
TEAMTR_INLINE bool all(M m) {
  const u4 o = (m.a & m.b) & (m.c & m.d);
  return (o[0] & o[1] & o[2] & o[3]) != 0;
}
TEAMTR_INLINE int count(M m) { /* lanes are 0 or -1 */
  const i4 s = ((i4)m.a + (i4)m.b) + ((i4)m.c + (i4)m.d);
  return -(s[0] + s[1] + s[2] + s[3]);
}
TEAMTR_INLINE F select(M m, F yes, F no) {
  return {pick(m.a, yes.a, no.a), pick(m.b, yes.b, no.b), pick(m.c, yes.c, no.c), pick(m.d, yes.d, no.d)};
}
TEAMTR_INLINE U select_u(M m, U yes, U no) {
  return {pick(m.a, yes.a, no.a), pick(m.b, yes.b, no.b), pick(m.c, yes.c, no.c), pick(m.d, yes.d, no.d)};
}
TEAMTR_INLINE f4 zero_if4(u4 m, f4 x) { return (f4)((u4)x & ~m); }
TEAMTR_INLINE F zero_if(M x, F y) { TEAMTR_EACH2(F, zero_if4); }

TEAMTR_INLINE u4 as_u4(f4 x) { return (u4)x; }
TEAMTR_INLINE f4 as_f4(u4 x) { return (f4)x; }
TEAMTR_INLINE f4 to_float4(u4 x) { return __builtin_convertvector((i4)x, f4); }
TEAMTR_INLINE U as_u(F x) { TEAMTR_EACH1(U, as_u4); }
TEAMTR_INLINE F as_f(U x) { TEAMTR_EACH1(F, as_f4); }
TEAMTR_INLINE F to_float(U x) { TEAMTR_EACH1(F, to_float4); } /* signed */
TEAMTR_INLINE U set_u(uint32_t x) { const u4 v = splat_u(x); return {v, v, v, v}; }
template <int N> TEAMTR_INLINE u4 shr4(u4 x) { return x >> N; }
template <int N> TEAMTR_INLINE u4 shl4(u4 x) { return x << N; }
template <int N> TEAMTR_INLINE U shr(U x) { TEAMTR_EACH1(U, shr4<N>); }
template <int N> TEAMTR_INLINE U shl(U x) { TEAMTR_EACH1(U, shl4<N>); }
TEAMTR_INLINE U iota_u() { return {u4{0, 1, 2, 3}, u4{4, 5, 6, 7}, u4{8, 9, 10, 11}, u4{12, 13, 14, 15}}; }
TEAMTR_INLINE void mul_wide(U x, U y, U* hi, U* lo) {
  uint32_t p[16], q[16], h[16], l[16];
  store_u(p, x);
  store_u(q, y);
  for (int i = 0; i < 16; i++) {
    const uint64_t w = (uint64_t)p[i] * q[i];
    h[i] = (uint32_t)(w >> 32);
    l[i] = (uint32_t)w;
  }
  *hi = load_u(h);
  *lo = load_u(l);
}
#undef TEAMTR_EACH1
#undef TEAMTR_EACH2

TEAMTR_INLINE double sum(F x) { /* the tree of simd_avx512.h */
  float v[16];
  store(v, x);
  double s[8];
  for (int i = 0; i < 8; i++) s[i] = (double)v[i] + (double)v[i + 8];
  for (int n = 4; n > 0; n /= 2)
    for (int i = 0; i < n; i++) s[i] += s[i + n];
  return s[0];
}
TEAMTR_INLINE float max_lane(F x) {
  const f4 m = max4(max4(x.a, x.b), max4(x.c, x.d));
  float r = m[0];
  for (int i = 1; i < 4; i++) r = m[i] > r ? m[i] : r;
  return r;
}

}  // namespace TEAMTR_ISA
}  // namespace teamtr
#endif
