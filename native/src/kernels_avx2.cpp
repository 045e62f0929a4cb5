#define TEAMTR_ISA avx2
#define TEAMTR_ROW_KERNELS kRowKernelsAvx2
#include "simd_avx2.h"
#include "row_kernels.inl"
