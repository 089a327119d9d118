// The arguments of the kernels of the networks: raw pointers and sizes, no types of torch.
//
// M models, R rows, a network of L linear layers with ReLUs between them; float32.

#pragma once

#include <cstdint>

#include "elbo_math.h"

namespace phasevae {

// Layer k maps widths[k] to widths[k + 1]: a weight [in, out] and then a bias [out] in a model's row of parameters.
struct Network {
  const int64_t* widths;  // layers + 1
  int64_t layers;
  const float* parameters;  // of the first model, where the first layer's weight begins
  int64_t model;            // floats from one model's parameters to the next one's
  bool in_panels = false;   // on the CPU: weights are as NetworkKernels::arrange leaves them
};

inline int64_t parameters_of(const Network& network) {
  int64_t total = 0;
  for (int64_t k = 0; k < network.layers; ++k) {
    total += (network.widths[k] + 1) * network.widths[k + 1];
  }
  return total;
}

inline int64_t largest_weight(const Network& network) {
  int64_t largest = 0;
  for (int64_t k = 0; k < network.layers; ++k) {
    const int64_t size = network.widths[k] * network.widths[k + 1];
    largest = size > largest ? size : largest;
  }
  return largest;
}

// A read-only array [M, R, width] of unit stride in its last dimension.
struct Rows {
  const float* data;
  int64_t model, row;
};

struct NetworkForward {
  Network network;
  int64_t rows;
  Rows input;
  float* output;  // [M, R, out]
  float* tape;    // for the backward pass, M * blocks * tape_size floats; null if there will be none
};

// The update by Adam that ends a backward pass of one model on the CPU: arrays in the order of its gradients.
struct Update {
  AdamFactors<float> factors;
  float *parameters, *first_moment, *second_moment;
};

struct NetworkBackward {
  Network network;
  int64_t models, rows;
  Rows input;
  const float* tape;
  Rows grad_output;     // of the objective of the parameters
  Rows grad_for_input;  // of the objective of the input; data null: the same objective
  float* grad_input;    // [M, R, in]; null if it is not computed
  float* gradients;     // [splits, M, gradient_model], those of the network at the beginning of each row
  int64_t gradient_model;
  int64_t splits;                  // 1, or one sum for each block of rows
  const Update* update = nullptr;  // null: the gradients are all
};

namespace cpu {

// Rows that stay in the second-level cache together, through all layers. The number is fixed: sums over rows are taken
// block by block, so they do not depend on the division among threads.
constexpr int64_t kBlockRows = 64;
// An array of a block consists of strips of this many columns, padded with zeros, one after the other: a tile reads
// and writes it in the order of memory. A strip ends with a line to spare, as strips of 4096 bytes would compete for
// the same lines of the cache.
constexpr int64_t kVectorFloats = 16;
constexpr int64_t kStripFloats = (kBlockRows + 1) * kVectorFloats;

inline int64_t padded(int64_t width) { return (width + kVectorFloats - 1) / kVectorFloats * kVectorFloats; }
inline int64_t block_size(int64_t width) { return padded(width) / kVectorFloats * kStripFloats; }
inline int64_t blocks_of(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }

// Floats of the tape of one block: the outputs of the inner layers.
inline int64_t tape_size(const Network& network) {
  int64_t total = 0;
  for (int64_t k = 1; k < network.layers; ++k) {
    total += block_size(network.widths[k]);
  }
  return total;
}

// Floats of scratch memory that a thread needs for a forward pass, and for a backward pass.
inline int64_t forward_scratch(const Network& network) {
  int64_t total = tape_size(network) + block_size(network.widths[0]) + block_size(network.widths[network.layers]);
  for (int64_t k = 0; k < network.layers; ++k) {
    total += padded(network.widths[k + 1]) * (network.widths[k] + 1) + kVectorFloats;
  }
  return total;
}

inline int64_t backward_scratch(const Network& network) {
  int64_t total = block_size(network.widths[0]), widest = network.widths[network.layers];
  for (int64_t k = 0; k < network.layers; ++k) {
    total += padded(network.widths[k]) * network.widths[k + 1] + kVectorFloats;
    widest = network.widths[k] > widest ? network.widths[k] : widest;
  }
  return total + 3 * block_size(widest);
}

// Tasks [begin, end) of the M * blocks of rows; in a backward pass of one split, of the M models. The scratch memory
// begins at a cache line.
struct NetworkKernels {
  void (*forward)(const NetworkForward& in, int64_t begin, int64_t end, float* scratch);
  void (*backward)(const NetworkBackward& in, int64_t begin, int64_t end, float* scratch);
  // Lays out an array in the order of a model's parameters as the products read the weights, in panels of columns, or
  // back. The scratch memory has room for the largest weight.
  void (*arrange)(const Network& network, bool into_panels, float* array, float* scratch);
};

// Those for this processor, null if there are none.
const NetworkKernels* network_kernels();
constexpr const char* kWithoutKernels =
    "needs a processor with AVX2, and an extension compiled by g++ 12, clang 18 or later; or a processor with NEON";

// For processors with AVX-512, AVX2 and NEON; null if the compiler makes no code for them.
const NetworkKernels* network_kernels_v4();
const NetworkKernels* network_kernels_v3();
const NetworkKernels* network_kernels_neon();

}  // namespace cpu

// CUDA launchers, as in elbo_launch.h: a launch for each layer.
namespace cuda {

// Floats of a tape: the outputs of the inner layers, each [M, R, width].
inline int64_t tape_size(const Network& network, int64_t models, int64_t rows) {
  int64_t width = 0;
  for (int64_t k = 1; k < network.layers; ++k) {
    width += network.widths[k];
  }
  return models * rows * width;
}

// The widest of every second inner layer, from `first` on.
inline int64_t widest_layer(const Network& network, int64_t first) {
  int64_t widest = 0;
  for (int64_t k = first; k < network.layers; k += 2) {
    widest = network.widths[k] > widest ? network.widths[k] : widest;
  }
  return widest;
}

// Floats of the gradient by the output of an inner layer.
inline int64_t gradient_size(const Network& network, int64_t models, int64_t rows) {
  const int64_t odd = widest_layer(network, 1), even = widest_layer(network, 2);
  return models * rows * (odd > even ? odd : even);
}

// A forward pass without a tape: inner layers write to two arrays by turns. Where the second begins in its scratch
// memory, and the floats of both.
inline int64_t second_array(const Network& network, int64_t models, int64_t rows) {
  return models * rows * widest_layer(network, 1);
}

inline int64_t forward_scratch(const Network& network, int64_t models, int64_t rows) {
  return second_array(network, models, rows) + models * rows * widest_layer(network, 2);
}

// with_tf32: operands of products rounded to TF32, which needs sm_80; else the bits are those of the CPU.
// scratch: forward_scratch floats if there is no tape.
int mlp_forward(const NetworkForward& in, int64_t models, float* scratch, bool with_tf32, void* stream);
// How many sums over rows a backward pass takes at a time: one for each block of rows if there are so few models that
// one sum for all rows would leave most of a GPU idle, else one. They are added in the order of the blocks in a launch
// of their own. The bits are the same.
int64_t gradient_splits(const Network& network, int64_t models, int64_t rows);

// The scratch memory of a backward pass: gradient_size, twice for each objective, and then the sums if there are
// several. Where the sums begin, and the floats of all.
inline int64_t sums_begin(const NetworkBackward& in) {
  return (in.grad_for_input.data ? 4 : 2) * gradient_size(in.network, in.models, in.rows);
}

inline int64_t backward_scratch(const NetworkBackward& in) {
  return sums_begin(in) + (in.splits > 1 ? in.splits * in.models * parameters_of(in.network) : 0);
}

// `gradients` are those of all rows, whatever the splits.
int mlp_backward(const NetworkBackward& in, float* scratch, bool with_tf32, void* stream);

}  // namespace cuda
}  // namespace phasevae
