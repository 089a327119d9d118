// The launch of a kernel, the same for all of them.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace phasevae::cuda {

constexpr int kThreads = 256, kWarp = 32;
constexpr int64_t kMostBlocks = 0x7fffffff;

inline int64_t blocks_of(int64_t numbers, int64_t of_block = kThreads) { return (numbers + of_block - 1) / of_block; }

// Whether the numbers of all threads, those without work included, fit into 32 bits.
inline bool fits(int64_t threads) { return threads <= kMostBlocks; }

// Launches a kernel with so many blocks of kThreads, or nothing if there are none. Returns a cudaError_t of this launch
// alone: what cudaGetLastError has kept of other libraries is left to them, and what it keeps of this launch is taken
// back.
template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), int64_t blocks, void* stream, const Arguments&... arguments) {
  if (blocks == 0) {
    return cudaSuccess;
  }
  if (blocks > kMostBlocks) {
    return cudaErrorInvalidConfiguration;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.stream = static_cast<cudaStream_t>(stream);
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...);
  if (error != cudaSuccess) {
    cudaGetLastError();
  }
  return error;
}

}  // namespace phasevae::cuda
