/* The kernels of one CPU level and their table, which the file of that level has included its vectors for and named. */
#include "kernels.inl"
#include "sampling.inl"
#include "decoding.inl"

namespace teamtr {
using namespace TEAMTR_ISA;
const RowKernels TEAMTR_ROW_KERNELS = {
    {stats<F32>, stats<Bf16>, stats<F16>},
    {gradient<F32>, gradient<Bf16>, gradient<F16>},
    {kl<F32>, kl<Bf16>, kl<F16>},
    {kl_gradient<F32>, kl_gradient<Bf16>, kl_gradient<F16>},
    {sample<F32>, sample<Bf16>, sample<F16>},
    {linear<F32>, linear<Bf16>, linear<F16>},
    {widen<F32>, widen<Bf16>, widen<F16>},
    {rms_norm<F32>, rms_norm<Bf16>, rms_norm<F16>},
    {swiglu<F32>, swiglu<Bf16>, swiglu<F16>},
    {attend<F32>, attend<Bf16>, attend<F16>},
    philox_of,
};
}  // namespace teamtr
