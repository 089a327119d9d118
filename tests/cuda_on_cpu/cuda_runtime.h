// A stand-in for <cuda_runtime.h>, with which g++ compiles the kernels for the emulator. It has what they use of CUDA:
// no dynamic shared memory, no atomics, no textures. Functions of csrc/cuda that are PTX have their twins here.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __shared__ static  // one block runs at a time

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 {
  unsigned x, y, z;
};
using float4 = float __attribute__((vector_size(16), may_alias));  // so that one instruction moves it

using cudaStream_t = struct CUstream_st*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9 };
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  void* attrs;
  unsigned numAttrs;
};

cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);

namespace emulator {

struct Builtins {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
extern Builtins builtins;

constexpr int kWarp = 32;

// Calls thread(arguments) once for each thread of the grid; `arguments` has `size` bytes.
cudaError_t run(const cudaLaunchConfig_t& config, void (*thread)(const void*), const void* arguments, size_t size);
void barrier();
// Waits for all lanes in `mask` and returns what lane `source` brought. `orders`: whether accesses of memory before and
// after it are ordered.
uint64_t exchange(unsigned mask, uint64_t value, int source, bool orders, const char* what);

// c += a b by a warp, as mma.sync.m16n8k8 with TF32: what a lane has of the matrices.
void multiply_m16n8k8(float* c, const float* a, const float* b);

constexpr int kTf32Dropped = 13;  // bits of a float32 that TF32 has not

inline int lane() { return builtins.thread.x % kWarp; }

template <class T>
T shuffle(unsigned mask, T value, int source, const char* what) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(mask, bits, source, false, what);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace emulator

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... given) {
  const auto thread = [kernel, arguments = std::tuple<Parameters...>(std::forward<Arguments>(given)...)] {
    std::apply(kernel, arguments);
  };
  using Thread = decltype(thread);
  return emulator::run(*config, [](const void* of) { (*static_cast<Thread*>(of))(); }, &thread, sizeof thread);
}

inline const uint3 &threadIdx = emulator::builtins.thread, &blockIdx = emulator::builtins.block;
inline const dim3 &blockDim = emulator::builtins.block_size, &gridDim = emulator::builtins.grid_size;

__forceinline__ void __stwb(float4* to, float4 value) { *to = value; }
inline void __syncthreads() { emulator::barrier(); }
inline void __syncwarp(unsigned mask = ~0u) { emulator::exchange(mask, 0, emulator::lane(), true, "__syncwarp"); }
template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
  return emulator::shuffle(mask, value, source % emulator::kWarp, "__shfl_sync");
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
  return emulator::shuffle(mask, value, emulator::lane() ^ bits, "__shfl_xor_sync");
}

inline float round_to_tf32(float number) {
  constexpr uint32_t kHalf = 1u << (emulator::kTf32Dropped - 1), kNaN = 0x7fffffff;
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  bits = number == number ? (bits + kHalf) >> emulator::kTf32Dropped << emulator::kTf32Dropped : kNaN;
  std::memcpy(&number, &bits, sizeof bits);
  return number;
}
inline void multiply_on_tensor_cores(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
  emulator::multiply_m16n8k8(c, a, b);
}

using std::max;
using std::min;
