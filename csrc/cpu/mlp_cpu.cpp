// The operations of the networks on the CPU: arguments are checked, blocks of rows are divided among torch's threads.

#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "../mlp_checks.h"
#include "parallel.h"
#include "scratch.h"
#include "vectorised.h"

namespace phasevae {
namespace {

// The kernels for this processor, null if there are none. They obey ATEN_CPU_CAPABILITY (default, avx2), as torch does.
const cpu::NetworkKernels* choose_kernels() {
#ifdef PHASEVAE_VECTORISED
  const std::string allowed = at::get_cpu_capability();
  if (allowed == "AVX512" && __builtin_cpu_supports("x86-64-v4")) {
    return cpu::network_kernels_v4();
  }
  if (allowed != "DEFAULT" && __builtin_cpu_supports("x86-64-v3")) {
    return cpu::network_kernels_v3();
  }
#endif
  return cpu::network_kernels_neon();
}

// The largest number of blocks of rows whose sums are kept separately. Each sum has the size of the gradients.
constexpr int64_t kMostParts = 16;

const cpu::NetworkKernels& checked_kernels(const char* op) {
  const cpu::NetworkKernels* chosen = cpu::network_kernels();
  TORCH_CHECK(chosen, op, ": ", cpu::kWithoutKernels);
  return *chosen;
}

// The argument tf32 is for CUDA alone.
std::tuple<at::Tensor, at::Tensor> mlp_forward(const at::Tensor& input, const at::Tensor& parameters, int64_t offset,
                                               at::IntArrayRef widths, bool keep, bool) {
  const char* op = "mlp_forward";
  const cpu::NetworkKernels& run = checked_kernels(op);
  const Network network = checked_network(parameters, offset, widths, op);
  const int64_t models = parameters.size(0), rows = rows_of(input, op), tasks = models * cpu::blocks_of(rows);
  const Rows from = checked_rows(input, parameters, rows, widths.front(), op, "input");
  at::Tensor output = at::empty({models, rows, widths.back()}, input.options());
  at::Tensor tape = at::empty({keep ? tasks * cpu::tape_size(network) : 0}, input.options());
  const NetworkForward pass{network, rows, from, output.mutable_data_ptr<float>(),
                            keep ? tape.mutable_data_ptr<float>() : nullptr};
  at::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    run.forward(pass, begin, end, cpu::Scratch(cpu::forward_scratch(network)).get());
  });
  return {output, tape};
}

// Adds the sums of the blocks of rows in the order of the blocks.
void add_up(const at::Tensor& parts, int64_t size, const at::Tensor& gradients) {
  const int64_t blocks = parts.size(0), models = parts.size(1);
  const float* from = parts.const_data_ptr<float>();
  float* to = gradients.mutable_data_ptr<float>();
  at::parallel_for(0, models, 1, [&](int64_t begin, int64_t end) {
    for (int64_t model = begin; model < end; ++model) {
      float* total = to + model * gradients.stride(0);
      std::copy_n(from + model * size, size, total);
      for (int64_t block = 1; block < blocks; ++block) {
        const float* part = from + (block * models + model) * size;
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) {
          total[i] += part[i];
        }
      }
    }
  });
}

at::Tensor mlp_backward(const at::Tensor& input, const at::Tensor& parameters, int64_t offset, at::IntArrayRef widths,
                        const at::Tensor& tape, const at::Tensor& grad_output,
                        const std::optional<at::Tensor>& grad_for_input, bool with_input, at::Tensor& gradients, bool) {
  const char* op = "mlp_backward";
  const cpu::NetworkKernels& run = checked_kernels(op);
  const Network network = checked_network(parameters, offset, widths, op);
  const int64_t models = parameters.size(0), rows = rows_of(input, op), blocks = cpu::blocks_of(rows);
  TORCH_CHECK(rows > 0, op, ": input must have rows, got ", input.sizes());
  const int64_t tasks = models * blocks, threads = at::get_num_threads();
  const Rows from = checked_rows(input, parameters, rows, widths.front(), op, "input");
  check(tape, parameters, {tasks * cpu::tape_size(network)}, op, "tape");
  check_gradients(gradients, parameters, op);
  Rows own{nullptr, 0, 0};
  if (grad_for_input) {
    own = checked_rows(*grad_for_input, parameters, rows, widths.back(), op, "grad_for_input");
  }
  at::Tensor grad_input = at::empty({models, with_input ? rows : 0, widths.front()}, input.options());
  NetworkBackward pass{network,
                       models,
                       rows,
                       from,
                       tape.const_data_ptr<float>(),
                       checked_rows(grad_output, parameters, rows, widths.back(), op, "grad_output"),
                       own,
                       with_input ? grad_input.mutable_data_ptr<float>() : nullptr,
                       gradients.mutable_data_ptr<float>() + offset,
                       gradients.stride(0),
                       1};
  const auto backward = [&](int64_t begin, int64_t end) {
    run.backward(pass, begin, end, cpu::Scratch(cpu::backward_scratch(network)).get());
  };
  // Either a thread takes whole models, or the blocks are added afterwards. The order, and so the numbers, are the
  // same.
  if (blocks == 1 || blocks > kMostParts || models % threads == 0 || models >= 4 * threads) {
    at::parallel_for(0, models, 1, backward);
    return grad_input;
  }
  const int64_t size = parameters_of(network);
  const at::Tensor parts = at::empty({blocks, models, size}, input.options());
  pass.gradients = parts.mutable_data_ptr<float>();
  pass.gradient_model = size;
  pass.splits = blocks;
  at::parallel_for(0, tasks, 1, backward);
  add_up(parts, size, gradients.narrow(1, offset, size));
  return grad_input;
}

// The flag changes with the weights, in one call: an interrupt of Python can't come between.
void arrange_weights(at::TensorList values, at::IntArrayRef encoder, at::IntArrayRef decoder, at::Tensor& in_panels,
                     bool into_panels) {
  const char* op = "arrange_weights";
  const cpu::NetworkKernels& run = checked_kernels(op);
  TORCH_CHECK(in_panels.is_cpu() && in_panels.scalar_type() == at::kBool && in_panels.dim() == 0, op,
              ": in_panels must be one bool on the CPU, got ", in_panels.scalar_type(), " ", in_panels.sizes());
  if (in_panels.item<bool>() == into_panels) {
    return;
  }
  struct Part {
    Network network;
    float* values;
  };
  std::vector<Part> parts;
  int64_t largest = 0;
  for (const at::Tensor& each : values) {
    check(each, values.front(), values.front().sizes(), op, "values");
    int64_t offset = 0;
    for (const at::IntArrayRef widths : {encoder, decoder}) {
      const Network network = checked_network(each, offset, widths, op);
      parts.push_back({network, each.mutable_data_ptr<float>() + offset});
      offset += parameters_of(network);
      largest = std::max(largest, largest_weight(network));
    }
  }
  const int64_t models = values.empty() ? 0 : values.front().size(0);
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), models);
  try {
    // All memory is there before the first model is changed.
    std::vector<std::unique_ptr<cpu::Scratch>> memories;
    for (int64_t thread = 0; thread < threads; ++thread) {
      memories.push_back(std::make_unique<cpu::Scratch>(largest));
    }
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t thread = begin; thread < end; ++thread) {
        for (int64_t model = thread; model < models; model += threads) {
          for (const Part& part : parts) {
            run.arrange(part.network, into_panels, part.values + model * part.network.model, memories[thread]->get());
          }
        }
      }
    });
  } catch (const std::bad_alloc&) {
    TORCH_CHECK(false, op, ": can't allocate memory");  // as torch says it of a tensor
  }
  in_panels.fill_(into_panels);
}

}  // namespace

const cpu::NetworkKernels* cpu::network_kernels() {
  static const NetworkKernels* const chosen = choose_kernels();
  return chosen;
}

bool has_network_kernels() { return cpu::network_kernels() != nullptr; }

TORCH_LIBRARY_IMPL(phasevae, CPU, library) {
  library.impl("mlp_forward", &mlp_forward);
  library.impl("mlp_backward", &mlp_backward);
  library.impl("arrange_weights", &arrange_weights);
}

}  // namespace phasevae
