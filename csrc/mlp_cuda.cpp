// The operations of the networks on CUDA.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "cuda_device.h"
#include "mlp_checks.h"

namespace phasevae {
namespace {

std::tuple<at::Tensor, at::Tensor> mlp_forward(const at::Tensor& input, const at::Tensor& parameters, int64_t offset,
                                               at::IntArrayRef widths, bool keep, bool tf32) {
  const char* op = "mlp_forward";
  const Network network = checked_network(parameters, offset, widths, op);
  const int64_t models = parameters.size(0), rows = rows_of(input, op);
  const Rows from = checked_rows(input, parameters, rows, widths.front(), op, "input");
  const CudaDevice device(input);
  at::Tensor output = at::empty({models, rows, widths.back()}, input.options());
  at::Tensor tape = at::empty({keep ? cuda::tape_size(network, models, rows) : 0}, input.options());
  at::Tensor scratch = at::empty({keep ? 0 : cuda::forward_scratch(network, models, rows)}, input.options());
  const NetworkForward pass{network, rows, from, output.mutable_data_ptr<float>(),
                            keep ? tape.mutable_data_ptr<float>() : nullptr};
  device.check(op, cuda::mlp_forward(pass, models, scratch.mutable_data_ptr<float>(), tf32, device.stream()));
  return {output, tape};
}

at::Tensor mlp_backward(const at::Tensor& input, const at::Tensor& parameters, int64_t offset, at::IntArrayRef widths,
                        const at::Tensor& tape, const at::Tensor& grad_output,
                        const std::optional<at::Tensor>& grad_for_input, bool with_input, at::Tensor& gradients,
                        bool tf32) {
  const char* op = "mlp_backward";
  const Network network = checked_network(parameters, offset, widths, op);
  const int64_t models = parameters.size(0), rows = rows_of(input, op);
  TORCH_CHECK(rows > 0, op, ": input must have rows, got ", input.sizes());
  const Rows from = checked_rows(input, parameters, rows, widths.front(), op, "input");
  check(tape, parameters, {cuda::tape_size(network, models, rows)}, op, "tape");
  check_gradients(gradients, parameters, op);
  const Rows grad = checked_rows(grad_output, parameters, rows, widths.back(), op, "grad_output");
  Rows own{nullptr, 0, 0};
  if (grad_for_input) {
    own = checked_rows(*grad_for_input, parameters, rows, widths.back(), op, "grad_for_input");
  }
  const CudaDevice device(input);
  at::Tensor grad_input = at::empty({models, with_input ? rows : 0, widths.front()}, input.options());
  const NetworkBackward pass{network,
                             models,
                             rows,
                             from,
                             tape.const_data_ptr<float>(),
                             grad,
                             own,
                             with_input ? grad_input.mutable_data_ptr<float>() : nullptr,
                             gradients.mutable_data_ptr<float>() + offset,
                             gradients.stride(0),
                             cuda::gradient_splits(network, models, rows)};
  const at::Tensor scratch = at::empty({cuda::backward_scratch(pass)}, input.options());
  device.check(op, cuda::mlp_backward(pass, scratch.mutable_data_ptr<float>(), tf32, device.stream()));
  return grad_input;
}

}  // namespace

TORCH_LIBRARY_IMPL(phasevae, CUDA, library) {
  library.impl("mlp_forward", &mlp_forward);
  library.impl("mlp_backward", &mlp_backward);
}

}  // namespace phasevae
