#define TEAMTR_ISA avx512
#define TEAMTR_ROW_KERNELS kRowKernelsAvx512
#include "simd_avx512.h"
#include "row_kernels.inl"
