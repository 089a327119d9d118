// Four neighbours of a row, which one instruction loads or stores.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace phasevae::cuda {

constexpr int kFour = 4;
template <class T>
struct alignas(16) Four {
  T value[kFour];
};

template <class T>
__device__ __forceinline__ bool is_whole(const T* place, int64_t stride, int count) {
  return stride == 1 && count == kFour && reinterpret_cast<uintptr_t>(place) % alignof(Four<T>) == 0;
}

// The first `count` of four numbers, and 0 for the others.
template <class T>
__device__ __forceinline__ Four<T> load(const T* from, int64_t stride, int count) {
  if (is_whole(from, stride, count)) {
    return *reinterpret_cast<const Four<T>*>(from);
  }
  Four<T> four;
#pragma unroll
  for (int i = 0; i < kFour; ++i) {
    four.value[i] = i < count ? from[i * stride] : T(0);
  }
  return four;
}

// An intrinsic, because nvcc makes four instructions of an assignment in some kernels.
__device__ __forceinline__ void store_whole(float* to, const Four<float>& four) {
  __stwb(reinterpret_cast<float4*>(to), float4{four.value[0], four.value[1], four.value[2], four.value[3]});
}
__device__ __forceinline__ void store_whole(double* to, const Four<double>& four) {
  *reinterpret_cast<Four<double>*>(to) = four;
}

template <class T>
__device__ __forceinline__ void store(T* to, const Four<T>& four, int count) {
  if (is_whole(to, 1, count)) {
    store_whole(to, four);
    return;
  }
#pragma unroll
  for (int i = 0; i < kFour; ++i) {
    if (i < count) {
      to[i] = four.value[i];
    }
  }
}

}  // namespace phasevae::cuda
