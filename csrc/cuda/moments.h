// Moment-matched noise on CUDA: a block computes one model.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../elbo_launch.h"
#include "../moments_math.h"
#include "launch.h"

namespace phasevae::cuda {

static_assert(kMomentThreads == kThreads);

// Noise of some rows that a block holds at a time.
constexpr int kTile = 1024;

// Whole rows of one draw.
struct TileRows {
  int64_t draw, first;
  int count;  // numbers
};

template <class T>
struct Number {
  T mu, logvar;
  int64_t place;  // in z
};

template <class T>
__device__ __forceinline__ Number<T> number(const Matching<T>& in, const TileRows& rows, int index) {
  const int64_t model = blockIdx.x, row = rows.first + index / static_cast<int>(in.latents);
  const int64_t column = index % static_cast<int>(in.latents);
  return {in.mu.data[model * in.mu.model + row * in.mu.row + column * in.mu.column],
          in.logvar.data[model * in.logvar.model + row * in.logvar.row + column * in.logvar.column],
          ((model * in.draws + rows.draw) * in.rows + row) * in.latents + column};
}

// Calls visit(rows) for all rows of a draw, with their noise in the tile.
template <class T, class Visit>
__device__ __forceinline__ void for_each_tile(const Matching<T>& in, int64_t draw, T* tile, const Visit& visit) {
  const int64_t at_once = kTile / in.latents;
  for (int64_t first = 0; first < in.rows; first += at_once) {
    const int64_t end = min(first + at_once, in.rows);
    const TileRows rows{draw, first, static_cast<int>((end - first) * in.latents)};
    for (int i = threadIdx.x; i < rows.count; i += kThreads) {
      const Number<T> n = number(in, rows, i);
      tile[i] = noise_of(in.z[n.place], n.mu, n.logvar);
    }
    __syncthreads();
    visit(rows);
    __syncthreads();
  }
}

// Matches the noise of a block's model. matched may be z.
template <class T>
__device__ __forceinline__ void match_moments_of_block(const Matching<T>& in) {
  __shared__ T tile[kTile], partial[kThreads], root[kThreads], inverse[kThreads], step[kThreads];
  const int n = static_cast<int>(in.latents), entries = n * n, stripes = stripes_of(n);
  const int thread = threadIdx.x, entry = thread % entries, stripe = thread / entries, i = entry / n, j = entry % n;
  T sum = 0;
  for_each_tile(in, 0, tile, [&](const TileRows& rows) {
    // The first row of the tile that belongs to the stripe.
    const int missing = static_cast<int>((stripe - rows.first % stripes + stripes) % stripes);
    for (int at = missing * n; stripe < stripes && at < rows.count; at += stripes * n) {
      sum += tile[at + i] * tile[at + j];
    }
  });
  partial[thread] = sum;
  __syncthreads();
  const bool has_entry = thread < entries;
  if (has_entry) {
    T total = partial[thread];
    for (int s = 1; s < stripes; ++s) {
      total += partial[s * entries + thread];
    }
    root[thread] = total / static_cast<T>(in.rows);
    inverse[thread] = i == j ? T(1) : T(0);
  }
  __syncthreads();
  for (int iteration = 0; iteration < kNewtonSchulzSteps; ++iteration) {
    if (has_entry) {
      step[thread] = newton_schulz(inverse, root, n, i, j);
    }
    __syncthreads();
    const T of_root = has_entry ? product(root, step, n, i, j) : T(0);
    const T of_inverse = has_entry ? product(step, inverse, n, i, j) : T(0);
    __syncthreads();
    if (has_entry) {
      root[thread] = of_root, inverse[thread] = of_inverse;
    }
    __syncthreads();
  }
  for (int64_t draw = 0; draw < in.draws; ++draw) {
    for_each_tile(in, draw, tile, [&](const TileRows& rows) {
      for (int at = thread; at < rows.count; at += kThreads) {
        const Number<T> place = number(in, rows, at);
        in.matched[place.place] = with_noise(place.mu, place.logvar, product(tile, inverse, n, at / n, at % n));
      }
    });
  }
}

}  // namespace phasevae::cuda
