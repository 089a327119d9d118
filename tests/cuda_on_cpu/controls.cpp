// The emulator on kernels that are right, and on the same kernels with one thing wrong, which it must find.

#include <cuda_runtime.h>

#include <cstdio>
#include <string>
#include <vector>

#include "emulator.h"

namespace {

constexpr int kThreads = 64, kBlocks = 3;

enum Wrong {
  kNothing,
  kNoBarrier,
  kBarrierForSome,
  kOnePlace,
  kReadsBeyond,
  kWritesBeyond,
  kUnset,
  kReadOnly,
  kNoWarpBarrier,
  kLanesLeft,
  kMask,
  kMisaligned
};

// out[b] = the sum of a block's numbers, through shared memory: first by threads far apart, then within a warp.
template <Wrong W>
__global__ void sums(float* in, float* out) {
  __shared__ float kept[kThreads];
  const int t = threadIdx.x;
  float* const own = &in[blockIdx.x * kThreads + t];
  if (W != kUnset || t > 0) {
    kept[t] = W == kReadsBeyond ? own[kThreads] : *own;
  }
  if (W == kReadOnly) {
    *own = 0.0f;
  }
  if (W == kMisaligned) {
    kept[t] = *reinterpret_cast<float*>(reinterpret_cast<char*>(in) + 2);
  }
  if (W != kNoBarrier && (W != kBarrierForSome || t < kThreads / 2)) {
    __syncthreads();
  }
  if (t >= 32 || (W == kLanesLeft && t >= 16)) {
    return;
  }
  float sum = kept[t] + kept[kThreads - 1 - t];
  __syncwarp(W == kLanesLeft ? 0xffff : ~0u);
  kept[t] = sum;
  if (W != kNoWarpBarrier) {
    __syncwarp(W == kLanesLeft ? 0xffff : ~0u);
  }
  sum = kept[31 - t];
  for (int distance = 16; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(W == kMask ? 0xfffeu : ~0u, sum, distance);
  }
  if (t == 0) {
    out[W == kOnePlace ? 0 : W == kWritesBeyond ? blockIdx.x + 1 : blockIdx.x] = sum;
  }
}

// Runs the kernel; returns whether the emulator found the error, or none and the sums are right.
template <Wrong W>
bool control(const char* what, const char* error) {
  std::vector<float> in(kBlocks * kThreads, 1.0f), out(kBlocks);
  emulator::allow(in.data(), 4 * in.size(), false, true);
  emulator::allow(out.data(), 4 * out.size(), true, false);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(kBlocks);
  config.blockDim = dim3(kThreads);
  cudaLaunchKernelEx(&config, sums<W>, in.data(), out.data());
  emulator::forget_all();
  bool right = error == nullptr && out == std::vector<float>(kBlocks, kThreads);
  std::string all;
  for (const std::string& line : emulator::errors()) {
    all += "; " + line;
    right = error ? right || line.find(error) != std::string::npos : false;
  }
  std::printf("%s %s%s\n", right ? "ok  " : "FAIL", what, all.c_str());
  return right;
}

}  // namespace

int main() {
  bool right = true;
  for (uint32_t seed : {0, 1, 2}) {
    emulator::set_order(seed);
    right &= control<kNothing>("the right kernel", nullptr);
    right &= control<kNoBarrier>("no barrier", "race");
    right &= control<kBarrierForSome>("a barrier for some threads", "other threads never reach");
    right &= control<kOnePlace>("all blocks write one place", "race");
    right &= control<kReadsBeyond>("reads beyond the end", "reads out of bounds");
    right &= control<kWritesBeyond>("writes beyond the end", "writes out of bounds");
    right &= control<kUnset>("shared memory not set", "never written");
    right &= control<kReadOnly>("writes its input", "read-only");
    right &= control<kNoWarpBarrier>("no barrier in a warp", "race");
    right &= control<kLanesLeft>("lanes that a mask names have left", "waits for ever");
    right &= control<kMask>("a lane outside its mask", "no lane of its own mask");
    right &= control<kMisaligned>("an address between two numbers", "misaligned");
  }
  return right ? 0 : 1;
}
