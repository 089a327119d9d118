// Stands in for torch's header where the emulator runs the CUDA kernels: their operations take tensors of the CPU.

#pragma once

#include <c10/core/Device.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(ns, key, library) _TORCH_LIBRARY_IMPL(ns, CPU, library, C10_UID)

namespace c10::cuda {

struct CUDAGuard {
  explicit CUDAGuard(c10::Device device) { TORCH_CHECK(device.is_cpu(), "emulated kernels need tensors of the CPU"); }
};

}  // namespace c10::cuda
