// A layer of the networks of all models on CUDA: one launch forward, and one back.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../mlp_launch.h"
#include "launch.h"
#include "products.h"

namespace phasevae::cuda {

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
  float* gradients;  // [splits, M, gradient_model], as the parameters
  int64_t gradient_model;
  int64_t splits;      // 1, or a sum for each block of rows
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

// The gradient of a layer's weight, in^T out, and of its bias, the sum of out, over all rows or those of a block.
template <class Tile>
__device__ __forceinline__ void parameter_gradient(const LayerBackward& in, int64_t model, int64_t split, int64_t tile,
                                                   Panels<Tile>& panels) {
  const Layer& layer = in.layer;
  const Tiling<Tile> tiling(layer.fan_in, layer.fan_out);
  const int64_t row = tiling.row(tile), column = tiling.column(tile);
  const int64_t first = split * cpu::kBlockRows, left = layer.rows - first;
  const int64_t rows = in.splits == 1 ? left : min(left, int64_t{cpu::kBlockRows});
  const Operand a{in.input.data + model * in.input.model + first * in.input.row, in.input.row, layer.fan_in, rows};
  const Operand b{in.grad.data + model * in.grad.model + first * in.grad.row, in.grad.row, layer.fan_out, rows};
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
    if (depth % cpu::kBlockRows == 0 || depth >= rows) {
      total.add(c), total_bias += bias;
      c.set({}), bias = 0;
    }
  });
  float* const weight = in.gradients + (split * layer.models + model) * in.gradient_model;
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
  const int64_t of_weight = Tiling<WeightTile>(layer.fan_in, layer.fan_out).count();
  const int64_t of_model = of_input + in.splits * of_weight;
  const int64_t model = blockIdx.x / of_model, tile = blockIdx.x - model * of_model;
  if (tile < of_input) {
    const int objective = static_cast<int>(tile / of_objective);
    input_gradient<InputTile>(in, model, objective, tile - objective * of_objective, panels.of_input);
  } else {
    const int64_t split = (tile - of_input) / of_weight;
    parameter_gradient<WeightTile>(in, model, split, tile - of_input - split * of_weight, panels.of_weight);
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
  const int64_t of_weight = in.splits * Tiling<WeightTile>(layer.fan_in, layer.fan_out).count();
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

}  // namespace phasevae::cuda
