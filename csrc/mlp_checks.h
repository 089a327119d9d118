// Checks of the tensors of the networks' passes, and the arguments of the kernels made from them. The same for CPU and
// CUDA.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "mlp_launch.h"

namespace phasevae {

inline void check(const at::Tensor& t, const at::Tensor& parameters, at::IntArrayRef shape, const char* op,
                  const char* name) {
  TORCH_CHECK(t.scalar_type() == at::kFloat && t.device() == parameters.device(), op, ": ", name,
              " must be float32 on ", parameters.device(), ", got ", t.scalar_type(), " on ", t.device());
  TORCH_CHECK(t.sizes() == shape, op, ": ", name, " must have shape ", shape, ", got ", t.sizes());
}

// `widths` must outlive the result.
inline Network checked_network(const at::Tensor& parameters, int64_t offset, at::IntArrayRef widths, const char* op) {
  TORCH_CHECK(widths.size() >= 2 && *std::min_element(widths.begin(), widths.end()) > 0, op,
              ": widths must be those of at least one layer, got ", widths);
  Network network{widths.data(), static_cast<int64_t>(widths.size()) - 1, nullptr, 0};
  const int64_t end = offset + parameters_of(network);
  TORCH_CHECK(parameters.dim() == 2 && offset >= 0 && end <= parameters.size(1), op, ": parameters must have shape ",
              "[M, ", end, " or more], got ", parameters.sizes());
  check(parameters, parameters, parameters.sizes(), op, "parameters");
  TORCH_CHECK(parameters.stride(1) == 1, op, ": rows of parameters must be contiguous");
  network.parameters = parameters.const_data_ptr<float>() + offset;
  network.model = parameters.stride(0);
  return network;
}

// Rows [M or 1, R, width]; with 1 they are shared by all models.
inline Rows checked_rows(const at::Tensor& t, const at::Tensor& parameters, int64_t rows, int64_t width, const char* op,
                         const char* name) {
  const int64_t models = parameters.size(0);
  check(t, parameters, {t.dim() == 3 && t.size(0) == 1 ? 1 : models, rows, width}, op, name);
  TORCH_CHECK(t.stride(2) == 1 || width == 1 || t.numel() == 0, op, ": ", name,
              " must have unit stride in its last dimension");
  return {t.const_data_ptr<float>(), t.size(0) == 1 ? 0 : t.stride(0), t.stride(1)};
}

inline int64_t rows_of(const at::Tensor& input, const char* op) {
  TORCH_CHECK(input.dim() == 3, op, ": input must have shape [M, R, in], got ", input.sizes());
  return input.size(1);
}

inline void check_gradients(const at::Tensor& gradients, const at::Tensor& parameters, const char* op) {
  check(gradients, parameters, parameters.sizes(), op, "gradients");
  TORCH_CHECK(gradients.stride(1) == 1 && (gradients.size(0) < 2 || gradients.stride(0) >= gradients.size(1)), op,
              ": rows of gradients must be contiguous and apart");
}

}  // namespace phasevae
