#define TEAMTR_ISA avx512
#include "simd_avx512.h"
#include "kernels.inl"
#include "sampling.inl"

namespace teamtr {
using namespace avx512;
const RowKernels kRowKernelsAvx512 = {
    {stats<F32>, stats<Bf16>, stats<F16>},
    {gradient<F32>, gradient<Bf16>, gradient<F16>},
    {kl<F32>, kl<Bf16>, kl<F16>},
    {kl_gradient<F32>, kl_gradient<Bf16>, kl_gradient<F16>},
    {sample<F32>, sample<Bf16>, sample<F16>},
    floor_sweep,
    philox_of,
};
}  // namespace teamtr
