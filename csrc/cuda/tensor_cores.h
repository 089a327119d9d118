// What the kernels use of tensor cores: products of small matrices by a warp, in TF32, the float32 of 11 significant
// bits.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "launch.h"

namespace phasevae::cuda {

// The lanes of a warp form groups. A product takes so many numbers of the depth.
constexpr int kGroups = 8, kGroupLanes = 4, kTensorDepth = 8;

__device__ __forceinline__ int group_of_lane() { return static_cast<int>(threadIdx.x) % kWarp / kGroupLanes; }
__device__ __forceinline__ int place_in_group() { return static_cast<int>(threadIdx.x) % kGroupLanes; }

// PTX; the runtime for tests, which g++ compiles, brings functions of the same names.
#ifdef __CUDACC__

// The nearest number of TF32; of two the one that is larger in magnitude.
__device__ __forceinline__ float round_to_tf32(float number) {
  uint32_t bits = 0;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(number));
#endif
  return __uint_as_float(bits);
}

// c += a b for matrices 16 x 8 and 8 x 8, of which each lane has some numbers. With its group g and its place p there:
//   a: (g, p), (g + 8, p), (g, p + 4), (g + 8, p + 4)
//   b: (p, g), (p + 4, g)
//   c: (g, 2 p), (g, 2 p + 1), (g + 8, 2 p), (g + 8, 2 p + 1)
// All lanes must call it. Needs sm_80. Source: PTX ISA, matrix fragments for mma.m16n8k8 with .tf32.
__device__ __forceinline__ void multiply_on_tensor_cores(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
        "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#else
  __trap();
#endif
}

#endif

}  // namespace phasevae::cuda
