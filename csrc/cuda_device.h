// The device and the stream on which an operation launches its kernels. It needs a CUDA build of torch.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include "elbo_launch.h"

namespace phasevae {

// Makes the tensor's device current for as long as it lives, and launches on torch's current stream there.
class CudaDevice {
 public:
  explicit CudaDevice(const at::Tensor& t) : guard_(t.device()), stream_(c10::cuda::getCurrentCUDAStream().stream()) {}

  void* stream() const { return stream_; }

  static void check(const char* op, int error) {
    TORCH_CHECK(error == 0, op, ": the CUDA kernel could not be launched: ", cuda::error_string(error));
  }

 private:
  c10::cuda::CUDAGuard guard_;
  void* stream_;
};

}  // namespace phasevae
