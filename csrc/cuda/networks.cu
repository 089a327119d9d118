// The networks' passes on CUDA: a launch for each layer, all models in it.

#include <cuda_runtime.h>

#include <cstdint>

#include "../mlp_launch.h"
#include "layers.h"

namespace phasevae::cuda {
namespace {

// Sums over the blocks of rows.
template <class T>
struct Splits {
  T* parts;  // [splits, M, size]
  int64_t splits, models, size;
  T* sums;  // of the first model
  int64_t model;
};

template <class T>
__global__ void __launch_bounds__(kThreads) add_splits_kernel(Splits<T> in) {
  const int64_t fours = (in.size + kFour - 1) / kFour, at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t model = at / fours, i = at % fours * kFour;
  if (model >= in.models) {
    return;
  }
  const int count = static_cast<int>(min(in.size - i, int64_t{kFour}));
  const T* part = in.parts + model * in.size + i;
  Four<T> sum = load(part, 1, count);
  for (int64_t split = 1; split < in.splits; ++split) {
    part += in.models * in.size;
    const Four<T> next = load(part, 1, count);
#pragma unroll
    for (int k = 0; k < kFour; ++k) {
      sum.value[k] += next.value[k];
    }
  }
  store(in.sums + model * in.model + i, sum, count);
}

Layer layer_of(const Network& network, int64_t k, const float* parameters, int64_t models, int64_t rows) {
  return {parameters, network.model, network.widths[k], network.widths[k + 1], models, rows};
}

Rows contiguous(const float* data, int64_t rows, int64_t width) { return {data, rows * width, width}; }

}  // namespace

int mlp_forward(const NetworkForward& in, int64_t models, float* scratch, bool with_tf32, void* stream) {
  const Network& network = in.network;
  const float* parameters = network.parameters;
  const int64_t second = second_array(network, models, in.rows);
  float* hidden = in.tape ? in.tape : scratch;
  Rows input = in.input;
  for (int64_t k = 0; k < network.layers; ++k) {
    const bool is_last = k + 1 == network.layers;
    const LayerForward pass{layer_of(network, k, parameters, models, in.rows), input, is_last ? in.output : hidden,
                            !is_last};
    if (const int error = with_tf32 ? run_layer<true>(pass, stream) : run_layer<false>(pass, stream)) {
      return error;
    }
    const int64_t fan_out = pass.layer.fan_out;
    input = contiguous(hidden, in.rows, fan_out);
    hidden = in.tape ? hidden + models * in.rows * fan_out : scratch + (k % 2 == 0 ? second : 0);
    parameters += (pass.layer.fan_in + 1) * fan_out;
  }
  return 0;
}

int64_t gradient_splits(const Network& network, int64_t models, int64_t rows) {
  constexpr int64_t kFewBlocks = 128;                 // of threads, on GPUs of a hundred multiprocessors
  constexpr int64_t kMostNumbers = int64_t{1} << 24;  // 64 MB
  int64_t tiles = 0;
  for (int64_t k = 0; k < network.layers; ++k) {
    tiles = max(tiles, Tiling<Wide<false>>(network.widths[k], network.widths[k + 1]).count());
  }
  const int64_t blocks = cpu::blocks_of(rows);
  const bool is_small = blocks * models * parameters_of(network) <= kMostNumbers;
  return models * tiles < kFewBlocks && is_small ? blocks : 1;
}

int mlp_backward(const NetworkBackward& in, float* scratch, bool with_tf32, void* stream) {
  const Network& network = in.network;
  const int64_t size = gradient_size(network, in.models, in.rows);
  const bool is_split = in.splits > 1;
  const Splits<float> splits{scratch + sums_begin(in), in.splits,    in.models,
                             parameters_of(network),   in.gradients, in.gradient_model};
  const float* parameters = network.parameters + splits.size;
  float* gradients = (is_split ? splits.parts : in.gradients) + splits.size;
  const float* hidden = in.tape + tape_size(network, in.models, in.rows);
  const bool has_own = in.grad_input && in.grad_for_input.data;
  Rows grads[2] = {in.grad_output, in.grad_for_input};
  for (int64_t k = network.layers - 1; k >= 0; --k) {
    const int64_t fan_in = network.widths[k], fan_out = network.widths[k + 1];
    parameters -= (fan_in + 1) * fan_out, gradients -= (fan_in + 1) * fan_out;
    hidden -= k > 0 ? in.models * in.rows * fan_in : 0;
    LayerBackward pass{layer_of(network, k, parameters, in.models, in.rows),
                       k > 0 ? contiguous(hidden, in.rows, fan_in) : in.input,
                       grads[0],
                       gradients,
                       is_split ? splits.size : in.gradient_model,
                       in.splits,
                       {grads[0], grads[1]},
                       {},
                       1 + has_own,
                       k > 0};
    if (k > 0) {
      for (int objective = 0; objective <= has_own; ++objective) {
        // By turns, because the gradient by the output is read while this one is written.
        pass.of_input[objective] = scratch + (2 * objective + k % 2) * size;
        grads[objective] = contiguous(pass.of_input[objective], in.rows, fan_in);
      }
    } else {
      pass.of_output[0] = grads[has_own];
      pass.of_input[0] = in.grad_input;
      pass.objectives = in.grad_input ? 1 : 0;
    }
    if (const int error = with_tf32 ? run_layer<true>(pass, stream) : run_layer<false>(pass, stream)) {
      return error;
    }
  }
  return is_split
             ? launch(add_splits_kernel<float>, blocks_of(in.models * blocks_of(splits.size, kFour)), stream, splits)
             : cudaSuccess;
}

}  // namespace phasevae::cuda
