// Rao-Blackwellised targets on CUDA: a launch for the control variates, a block a model, and one for the targets. The
// order of sums is that of csrc/targets_math.h, so the bits are those of the CPU.

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "../targets_launch.h"
#include "../targets_math.h"
#include "block_sum.h"
#include "launch.h"

namespace phasevae::cuda {
namespace {

// A block's threads: a stripe of rows, or a draw, times the lanes of a row.
constexpr int kLanes = 16, kDraws = kThreads / kLanes;
static_assert(kDraws == kStripes && kLanes == kStripes);

// Sums that a block of threads takes for kLanes features.
template <class T>
struct Sums {
  T squares[kStripes][kLanes], products[kStripes][kLanes], deviations[kStripes][kLanes];
};

template <class T>
__device__ __forceinline__ T sum_over_stripes(T (&numbers)[kStripes][kLanes], int lane) {
  T stripes[kStripes];
#pragma unroll
  for (int i = 0; i < kStripes; ++i) {
    stripes[i] = numbers[i][lane];
  }
  return sum_of_stripes(stripes);
}

// Sums of a feature over a thread's stripe of the rows [begin, end); on the way the derivatives by the rows.
template <class T>
__device__ __forceinline__ void sum_rows(const GaussianObjective<T>& in, int64_t model, int64_t feature, int64_t begin,
                                         int64_t end, T factor, Sums<T>& sums, T& error) {
  const Targets<T>& of = in.targets;
  const int lane = threadIdx.x % kLanes, stripe = threadIdx.x / kLanes;
  const T mean = of.mean ? of.mean[feature] : T(0), share = T(1) / static_cast<T>(of.draws);
  T squares = 0, products = 0, deviations = 0;
  for (int64_t row = begin + stripe; row < end; row += kStripes) {
    const T x = of.x.data[model * of.x.model + row * of.x.row + feature];
    T average = 0;
    for (int64_t draw = 0; draw < of.draws; ++draw) {
      const int64_t place = ((model * of.draws + draw) * of.rows + row) * of.features + feature;
      const T decoded = of.decoded[place], residual = decoded - x;
      average = draw == 0 ? decoded : average + decoded;
      error += residual * residual;
      if (in.of_rows) {
        in.of_rows[place] = residual * factor;
      }
    }
    const T centred = x - mean;
    squares += centred * centred;
    products += (x - average * share) * centred;
    deviations += centred;
  }
  sums.squares[stripe][lane] = squares, sums.products[stripe][lane] = products;
  sums.deviations[stripe][lane] = deviations;
}

// The factor of a residual in the derivative of the mean energy.
template <class T>
__device__ __forceinline__ T factor_of(const GaussianObjective<T>& in, int64_t model) {
  const Targets<T>& of = in.targets;
  return in.sigma2 ? T(1) / static_cast<T>(of.draws * of.rows) / in.sigma2[model] : T(0);
}

// For a model the control variates [2, D], and with sigma2 the energy and the derivatives by the rows.
template <class T>
__global__ void __launch_bounds__(kThreads) variates_kernel(GaussianObjective<T> in, int64_t split, T* variates) {
  __shared__ Sums<T> halves[2];
  const Targets<T>& of = in.targets;
  const int64_t model = blockIdx.x;
  const int thread = threadIdx.x, lane = thread % kLanes;
  const T factor = factor_of(in, model);
  T error = 0;
  for (int64_t first = 0; first < of.features; first += kLanes) {
    if (first + lane < of.features) {
      sum_rows(in, model, first + lane, 0, split, factor, halves[0], error);
      sum_rows(in, model, first + lane, split, of.rows, factor, halves[1], error);
    }
    __syncthreads();
    if (thread < 2 * kLanes && first + lane < of.features) {
      const int own = thread / kLanes;
      const int64_t rows_of_other = own ? split : of.rows - split;
      const T squares = sum_over_stripes(halves[own].squares, lane);
      const T products = sum_over_stripes(halves[own].products, lane);
      const T deviations = sum_over_stripes(halves[1 - own].deviations, lane);
      variates[(2 * model + own) * of.features + first + lane] =
          of.mean && split > 0 ? control_variate(squares, products, deviations, rows_of_other) : T(0);
    }
    __syncthreads();
  }
  if (in.sigma2) {
    const T sum = sum_of_block(error);
    if (thread == 0) {
      in.energy[model] = Gaussian::scaled(sum / static_cast<T>(of.draws * of.rows), in.sigma2[model]);
    }
  }
}

// Rows of a group and features that a block holds at a time, and the latents by which it adds to the densities.
template <class T>
constexpr int kGroupRows = sizeof(T) == sizeof(float) ? 64 : 32;
template <class T>
constexpr int kOwnRows = kGroupRows<T> / kStripes;
constexpr int kFeatures = 64, kOwnFeatures = kFeatures / kLanes, kLatents = 16;

template <class T>
struct GroupTile {
  T mu[kGroupRows<T>][kLatents + 1], falloff[kGroupRows<T>][kLatents + 1], constant[kGroupRows<T>];
  T z[kDraws][kLatents + 1];
  T weights[kDraws][kGroupRows<T> + 1];
  T x[kGroupRows<T>][kFeatures + 1];
  T sums[kDraws][kStripes];
};

// The draws of a group that a block computes, kDraws of them, and its features.
struct Draws {
  int64_t model, group_row, first, count, feature;

  // Where draw `at` of the group is in [M, A, B].
  template <class T>
  __device__ __forceinline__ int64_t place(const Targets<T>& in, int64_t at) const {
    return (model * in.draws + at / in.group) * in.rows + group_row + at % in.group;
  }
};

// log q(z | x_b) of a thread's draw for the rows b = stripe, stripe + kStripes, ... of the tile that begins with `row`.
// Minus infinity where there is no row.
template <class T>
__device__ __forceinline__ void densities(const Targets<T>& in, const Draws& draws, int64_t row, GroupTile<T>& tile,
                                          T (&logit)[kOwnRows<T>]) {
  const int thread = threadIdx.x, stripe = thread % kStripes, draw = thread / kStripes;
  const int64_t rows = min(in.group - row, static_cast<int64_t>(kGroupRows<T>)), from = draws.group_row + row;
  const T* logvar = in.logvar.data + draws.model * in.logvar.model + from * in.logvar.row;
  const T* mu = in.mu.data + draws.model * in.mu.model + from * in.mu.row;
  if (thread < rows) {
    T sum = 0;
    for (int64_t k = 0; k < in.latents; ++k) {
      sum += logvar[thread * in.logvar.row + k * in.logvar.column];
    }
    tile.constant[thread] = sum * T(-0.5);
  }
  int64_t first = 0;
  do {
    const int count = static_cast<int>(min(in.latents - first, static_cast<int64_t>(kLatents)));
    for (int i = thread; i < kGroupRows<T> * kLatents; i += kThreads) {
      if (const int b = i / kLatents, k = i % kLatents; b < rows && k < count) {
        tile.mu[b][k] = mu[b * in.mu.row + (first + k) * in.mu.column];
        tile.falloff[b][k] = falloff(logvar[b * in.logvar.row + (first + k) * in.logvar.column]);
      }
    }
    if (draw < draws.count && stripe < count) {
      tile.z[draw][stripe] = in.z[draws.place(in, draws.first + draw) * in.latents + first + stripe];
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kOwnRows<T>; ++j) {
      const int b = stripe + j * kStripes;
      if (b < rows && draw < draws.count) {
        T sum = first == 0 ? tile.constant[b] : logit[j];
        for (int k = 0; k < count; ++k) {
          sum += log_density(tile.z[draw][k], tile.mu[b][k], tile.falloff[b][k]);
        }
        logit[j] = sum;
      } else {
        logit[j] = -INFINITY;
      }
    }
    __syncthreads();
    first += kLatents;
  } while (first < in.latents);
}

// For kDraws draws of a group and kFeatures features the targets, or with sigma2 the derivative by them.
template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == sizeof(float) ? 3 : 1)
    targets_kernel(GaussianObjective<T> in, int64_t split, const T* variates) {
  __shared__ GroupTile<T> tile;
  const Targets<T>& of = in.targets;
  const int64_t parts = (of.features + kFeatures - 1) / kFeatures;
  const int64_t chunks = (of.draws * of.group + kDraws - 1) / kDraws;
  const int64_t at = blockIdx.x / parts, group = at / chunks, groups = of.rows / of.group, model = group / groups;
  const int64_t first = (at - group * chunks) * kDraws;
  const Draws draws{model, (group - model * groups) * of.group, first,
                    min(of.draws * of.group - first, static_cast<int64_t>(kDraws)),
                    (blockIdx.x - at * parts) * kFeatures};
  const int thread = threadIdx.x, stripe = thread % kStripes, draw = thread / kStripes;
  const int width = static_cast<int>(min(of.features - draws.feature, static_cast<int64_t>(kFeatures)));
  T logit[kOwnRows<T>], largest = -INFINITY;
  for (int64_t row = 0; row < of.group; row += kGroupRows<T>) {
    densities(of, draws, row, tile, logit);
#pragma unroll
    for (int j = 0; j < kOwnRows<T>; ++j) {
      largest = logit[j] > largest ? logit[j] : largest;
    }
  }
#pragma unroll
  for (int distance = kStripes / 2; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(~0u, largest, distance);
    largest = other > largest ? other : largest;
  }
  T sum = 0, averages[kOwnFeatures] = {};
  for (int64_t row = 0; row < of.group; row += kGroupRows<T>) {
    const int rows = static_cast<int>(min(of.group - row, static_cast<int64_t>(kGroupRows<T>)));
    densities(of, draws, row, tile, logit);
#pragma unroll
    for (int j = 0; j < kOwnRows<T>; ++j) {
      const T weight = exponential(logit[j] - largest);
      tile.weights[draw][stripe + j * kStripes] = weight;
      sum += weight;
    }
    const T* x = of.x.data + model * of.x.model + (draws.group_row + row) * of.x.row + draws.feature;
    for (int i = thread; i < rows * width; i += kThreads) {
      tile.x[i / width][i % width] = x[i / width * of.x.row + i % width];
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kOwnFeatures; ++j) {
      if (const int d = stripe + j * kLanes; d < width) {
        for (int b = 0; b < rows; ++b) {
          averages[j] += tile.weights[draw][b] * tile.x[b][d];
        }
      }
    }
    __syncthreads();
  }
  tile.sums[draw][stripe] = sum;
  __syncthreads();
  T stripes[kStripes];
#pragma unroll
  for (int i = 0; i < kStripes; ++i) {
    stripes[i] = tile.sums[draw][i];
  }
  if (draw >= draws.count) {
    return;
  }
  const T scale = T(1) / sum_of_stripes(stripes);
  const T* variate = variates + (2 * model + (draws.group_row < split ? 0 : 1)) * of.features;
  const T factor = factor_of(in, model);
#pragma unroll
  for (int j = 0; j < kOwnFeatures; ++j) {
    if (const int64_t feature = draws.feature + stripe + j * kLanes; feature < of.features) {
      const int64_t place = draws.place(of, first + draw) * of.features + feature;
      const T target = averages[j] * scale - variate[feature];
      if (in.sigma2) {
        in.of_targets[place] = (of.decoded[place] - target) * factor;
      } else {
        of.targets[place] = target;
      }
    }
  }
}

}  // namespace

template <class T>
int gaussian_objective(const GaussianObjective<T>& in, T* variates, void* stream) {
  const Targets<T>& of = in.targets;
  const bool is_empty = of.models * of.draws * of.rows * of.features == 0;
  const int64_t split = first_half(of);
  if (const int error = launch(variates_kernel<T>, is_empty ? 0 : of.models, stream, in, split, variates)) {
    return error;
  }
  const int64_t chunks = blocks_of(of.draws * of.group, kDraws) * blocks_of(of.features, kFeatures);
  const int64_t blocks = is_empty ? 0 : of.models * (of.rows / of.group) * chunks;
  return launch(targets_kernel<T>, blocks, stream, in, split, variates);
}

template <class T>
int targets(const Targets<T>& in, T* variates, void* stream) {
  return gaussian_objective(GaussianObjective<T>{in, nullptr, nullptr, nullptr, nullptr}, variates, stream);
}

#define PHASEVAE_TARGETS(T)                                                   \
  template int gaussian_objective<T>(const GaussianObjective<T>&, T*, void*); \
  template int targets<T>(const Targets<T>&, T*, void*);

PHASEVAE_TARGETS(float)
PHASEVAE_TARGETS(double)

#undef PHASEVAE_TARGETS

}  // namespace phasevae::cuda
