// The networks' passes on CUDA: a launch for each layer, all models in it.

#include <cuda_runtime.h>

#include <cstdint>

#include "../mlp_launch.h"
#include "launch.h"
#include "products.h"

namespace phasevae::cuda {
namespace {

// Sums over rows are taken block by block, and the blocks added in their order.
static_assert(cpu::kBlockRows % kDepth == 0);

// One layer of every model.
struct Layer {
  const float* parameters;  // of the first model: weight [in, out] and bias [out]
  int64_t model;            // floats from one model's parameters to the next one's
  int64_t fan_in, fan_out, models, rows;
};

struct LayerForward {
  Layer layer;
  Rows input;     // [M, R, in]
  float* output;  // [M, R, out]
  bool has_relu;
};

// For the weights the gradient of their objective, for the input that of one or two objectives.
struct LayerBackward {
  Layer layer;
  Rows input;        // [M, R, in]
  Rows grad;         // [M, R, out], of the objective of the parameters
  float* gradients;  // of the first model, as the parameters
  int64_t gradient_model;
  Rows of_output[2];   // [M, R, out], each objective's
  float* of_input[2];  // [M, R, in]
  int objectives;
  bool is_masked;  // by the ReLU whose output the input is
};

// How the tiles of a product [rows, columns] follow each other: those of a row of tiles, of a model.
template <class Tile>
struct Tiling {
  int64_t rows, columns;

  __host__ __device__ Tiling(int64_t of_rows, int64_t of_columns)
      : rows((of_rows + Tile::kRows - 1) / Tile::kRows), columns((of_columns + Tile::kColumns - 1) / Tile::kColumns) {}
  __host__ __device__ int64_t count() const { return rows * columns; }
  __device__ int64_t row(int64_t tile) const { return tile / columns * Tile::kRows; }
  __device__ int64_t column(int64_t tile) const { return tile % columns * Tile::kColumns; }
};

__device__ __forceinline__ Operand rows_of(const Rows& of, int64_t model, int64_t rows, int64_t width) {
  return {of.data + model * of.model, of.row, rows, width};
}

template <class Tile>
__global__ void __launch_bounds__(kThreads, 2) layer_forward_kernel(LayerForward in) {
  __shared__ Panels<Tile> panels;
  const Layer& layer = in.layer;
  const Tiling<Tile> tiling(layer.rows, layer.fan_out);
  const int64_t model = blockIdx.x / tiling.count(), tile = blockIdx.x - model * tiling.count();
  const int64_t row = tiling.row(tile), column = tiling.column(tile), from = column + Part<Tile>::column();
  const float* weight = layer.parameters + model * layer.model;
  const Operand a = rows_of(in.input, model, layer.rows, layer.fan_in);
  const Operand b{weight, layer.fan_out, layer.fan_out, layer.fan_in};
  Part<Tile> c;
  const int count = static_cast<int>(max(int64_t{0}, min(layer.fan_out - from, int64_t{kFour})));
  c.set(load(weight + layer.fan_in * layer.fan_out + from, 1, count));
  add_product<Tile, true, false>(a, row, b, column, panels, c, [](const auto&, int64_t) {});
  float* const output = in.output + model * layer.rows * layer.fan_out;
  for_each_row<Tile>(row, layer.rows, column, layer.fan_out, [&](int64_t at, int64_t first, int columns, int r) {
    Four<float> four;
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      const float value = c.value[r][i];
      four.value[i] = in.has_relu && value < 0.0f ? 0.0f : value;  // NaN stays visible
    }
    store(output + at * layer.fan_out + first, four, columns);
  });
}

// The gradient of a layer's input, out W^T, for one objective.
template <class Tile>
__device__ __forceinline__ void input_gradient(const LayerBackward& in, int64_t model, int objective, int64_t tile,
                                               Panels<Tile>& panels) {
  const Layer& layer = in.layer;
  const Tiling<Tile> tiling(layer.rows, layer.fan_in);
  const int64_t row = tiling.row(tile), column = tiling.column(tile);
  const Operand a = rows_of(in.of_output[objective], model, layer.rows, layer.fan_out);
  const Operand b{layer.parameters + model * layer.model, layer.fan_out, layer.fan_in, layer.fan_out};
  Part<Tile> c;
  c.set({});
  add_product<Tile, true, true>(a, row, b, column, panels, c, [](const auto&, int64_t) {});
  float* const to = in.of_input[objective] + model * layer.rows * layer.fan_in;
  const float* const active = in.input.data + model * in.input.model;
  for_each_row<Tile>(row, layer.rows, column, layer.fan_in, [&](int64_t at, int64_t first, int columns, int r) {
    Four<float> four, of_relu{};
    if (in.is_masked) {
      of_relu = load(active + at * in.input.row + first, 1, columns);
    }
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      four.value[i] = in.is_masked && of_relu.value[i] <= 0.0f ? 0.0f : c.value[r][i];
    }
    store(to + at * layer.fan_in + first, four, columns);
  });
}

// The gradient of a layer's weight, in^T out, and of its bias, the sum of out.
template <class Tile>
__device__ __forceinline__ void parameter_gradient(const LayerBackward& in, int64_t model, int64_t tile,
                                                   Panels<Tile>& panels) {
  const Layer& layer = in.layer;
  const Tiling<Tile> tiling(layer.fan_in, layer.fan_out);
  const int64_t row = tiling.row(tile), column = tiling.column(tile);
  const Operand a{in.input.data + model * in.input.model, in.input.row, layer.fan_in, layer.rows};
  const Operand b{in.grad.data + model * in.grad.model, in.grad.row, layer.fan_out, layer.rows};
  const int thread = threadIdx.x;
  const bool has_bias = row == 0 && thread < Tile::kColumns && column + thread < layer.fan_out;
  Part<Tile> c, total;
  c.set({}), total.set({});
  float bias = 0, total_bias = 0;
  add_product<Tile, false, false>(a, row, b, column, panels, c, [&](const auto& panel, int64_t depth) {
    if (has_bias) {
#pragma unroll
      for (int k = 0; k < kDepth; ++k) {
        bias += panel[k][thread];
      }
    }
    if (depth % cpu::kBlockRows == 0 || depth >= layer.rows) {
      total.add(c), total_bias += bias;
      c.set({}), bias = 0;
    }
  });
  float* const weight = in.gradients + model * in.gradient_model;
  for_each_row<Tile>(row, layer.fan_in, column, layer.fan_out, [&](int64_t at, int64_t first, int columns, int r) {
    Four<float> four;
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      four.value[i] = total.value[r][i];
    }
    store(weight + at * layer.fan_out + first, four, columns);
  });
  if (has_bias) {
    weight[layer.fan_in * layer.fan_out + column + thread] = total_bias;
  }
}

// Both gradients, so that the second reads what the first has brought into the cache.
template <class InputTile, class WeightTile>
__global__ void __launch_bounds__(kThreads, 2) layer_backward_kernel(LayerBackward in) {
  __shared__ union {
    Panels<InputTile> of_input;
    Panels<WeightTile> of_weight;
  } panels;
  const Layer& layer = in.layer;
  const int64_t of_objective = Tiling<InputTile>(layer.rows, layer.fan_in).count();
  const int64_t of_input = in.objectives * of_objective;
  const int64_t of_model = of_input + Tiling<WeightTile>(layer.fan_in, layer.fan_out).count();
  const int64_t model = blockIdx.x / of_model, tile = blockIdx.x - model * of_model;
  if (tile < of_input) {
    const int objective = static_cast<int>(tile / of_objective);
    input_gradient<InputTile>(in, model, objective, tile - objective * of_objective, panels.of_input);
  } else {
    parameter_gradient<WeightTile>(in, model, tile - of_input, panels.of_weight);
  }
}

template <class Tile>
int run(const LayerForward& in, void* stream) {
  const int64_t tiles = Tiling<Tile>(in.layer.rows, in.layer.fan_out).count();
  return launch(layer_forward_kernel<Tile>, in.layer.models * tiles, stream, in);
}

template <class InputTile, class WeightTile>
int run(const LayerBackward& in, void* stream) {
  const Layer& layer = in.layer;
  const int64_t of_input = in.objectives * Tiling<InputTile>(layer.rows, layer.fan_in).count();
  const int64_t of_weight = Tiling<WeightTile>(layer.fan_in, layer.fan_out).count();
  return launch(layer_backward_kernel<InputTile, WeightTile>, layer.models * (of_input + of_weight), stream, in);
}

// A layer's launch with the tiles that fit its widths.
template <bool WithTf32>
int run_layer(const LayerForward& in, void* stream) {
  return in.layer.fan_out <= kShort ? run<Narrow<WithTf32>>(in, stream) : run<Wide<WithTf32>>(in, stream);
}

template <bool WithTf32>
int run_layer(const LayerBackward& in, void* stream) {
  return in.layer.fan_in <= kShort    ? run<Narrow<WithTf32>, Flat<WithTf32>>(in, stream)
         : in.layer.fan_out <= kShort ? run<Wide<WithTf32>, Narrow<WithTf32>>(in, stream)
                                      : run<Wide<WithTf32>, Wide<WithTf32>>(in, stream);
}

Layer layer_of(const Network& network, int64_t k, const float* parameters, int64_t models, int64_t rows) {
  return {parameters, network.model, network.widths[k], network.widths[k + 1], models, rows};
}

Rows contiguous(const float* data, int64_t rows, int64_t width) { return {data, rows * width, width}; }

}  // namespace

int mlp_forward(const NetworkForward& in, int64_t models, float* scratch, bool with_tf32, void* stream) {
  const Network& network = in.network;
  const float* parameters = network.parameters;
  const int64_t second_array = models * in.rows * widest_layer(network, 1);
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
    hidden = in.tape ? hidden + models * in.rows * fan_out : scratch + (k % 2 == 0 ? second_array : 0);
    parameters += (pass.layer.fan_in + 1) * fan_out;
  }
  return 0;
}

int mlp_backward(const NetworkBackward& in, float* scratch, bool with_tf32, void* stream) {
  const Network& network = in.network;
  const int64_t size = gradient_size(network, in.models, in.rows);
  const float* parameters = network.parameters + parameters_of(network);
  float* gradients = in.gradients + parameters_of(network);
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
                       in.gradient_model,
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
  return 0;
}

}  // namespace phasevae::cuda
