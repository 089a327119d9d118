// A sum over the threads of a block, pairwise.

#pragma once

#include <cuda_runtime.h>

#include "launch.h"

namespace phasevae::cuda {

// The sum, for thread 0 alone; all threads must call it. It has barriers.
template <class T>
__device__ __forceinline__ T sum_of_block(T value) {
  __shared__ T numbers[kThreads];
  numbers[threadIdx.x] = value;
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      numbers[threadIdx.x] += numbers[threadIdx.x + half];
    }
  }
  return threadIdx.x == 0 ? numbers[0] : T(0);
}

}  // namespace phasevae::cuda
