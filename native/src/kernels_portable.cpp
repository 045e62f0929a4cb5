#define TEAMTR_ISA portable
#define TEAMTR_ROW_KERNELS kRowKernelsPortable
#include "simd_portable.h"
#include "row_kernels.inl"
