// What is elementwise in a training step on CUDA: its inputs, the draws from the posterior and their derivatives, and
// the sums for the history.

#include <cuda_runtime.h>

#include <cstdint>

#include "../cuda_step_launch.h"
#include "block_sum.h"
#include "launch.h"
#include "moments.h"
#include "places.h"

namespace phasevae::cuda {
namespace {

// NaN stays NaN.
template <class T>
__device__ __forceinline__ T clamped(T value, T low, T high) {
  return value < low ? low : value > high ? high : value;
}

// Four latents of a row of a model's block, by a number below rows * ceil(latents / 4).
__device__ __forceinline__ Place place_of(int64_t model, int64_t number, int64_t latents) {
  const int64_t fours = (latents + kFour - 1) / kFour, row = number / fours, column = (number - row * fours) * kFour;
  return {model, row, column, static_cast<int>(min(latents - column, int64_t{kFour}))};
}

template <class T>
__global__ void __launch_bounds__(kThreads) sample_kernel(Sampling<T> in) {
  const int64_t model = blockIdx.x, n = in.latents, size = in.rows * n, numbers = in.rows * ((n + kFour - 1) / kFour);
  const T* encoded = in.encoded + model * 2 * size;
  T* z = in.z + model * in.draws * size;
  T* logvars = in.logvar + model * size;
  T sum = 0;
  for (int64_t number = threadIdx.x; number < numbers; number += kThreads) {
    const Place place = place_of(model, number, n);
    const int64_t at = place.row * n + place.column, from = place.row * 2 * n + place.column;
    const Four<T> mu = load(encoded + from, 1, place.count), eps = draw<T>(in.stream, place);
    Four<T> logvar = load(encoded + from + n, 1, place.count), plus, minus;
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      logvar.value[i] = clamped(logvar.value[i], in.low, in.high);
      const Width<T> w = width(logvar.value[i]);
      const T spread = w.scale * eps.value[i];
      plus.value[i] = mu.value[i] + spread;
      minus.value[i] = mu.value[i] - spread;
      sum += i < place.count ? T(0.5) * (mu.value[i] * mu.value[i] + w.excess) : T(0);
    }
    store(logvars + at, logvar, place.count);
    store(z + at, plus, place.count);
    if (in.draws == 2) {
      store(z + size + at, minus, place.count);
    }
  }
  const T total = sum_of_block(sum);
  if (threadIdx.x == 0) {
    in.kl[model] = total / static_cast<T>(in.rows);
  }
  if (in.is_matched) {
    // The barriers of the sum have made the draws visible to the block.
    const View<T> mu{in.encoded, 2 * size, 2 * n, 1}, logvar{in.logvar, size, n, 1};
    match_moments_of_block(Matching<T>{mu, logvar, in.z, in.z, in.models, in.draws, in.rows, n});
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) sample_backward_kernel(SamplingGradient<T> in, int64_t numbers) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (thread >= in.models * numbers) {
    return;
  }
  const int64_t model = thread / numbers, n = in.latents, size = in.rows * n;
  const Place place = place_of(model, thread - model * numbers, n);
  const int64_t at = model * in.draws * size + place.row * n + place.column;
  const int64_t from = model * 2 * size + place.row * 2 * n + place.column;
  const Four<T> mu = load(in.encoded + from, 1, place.count), logvar = load(in.encoded + from + n, 1, place.count);
  const Four<T> z = load(in.z + at, 1, place.count), g_plus = load(in.of_z + at, 1, place.count);
  const Four<T> g_minus = in.draws == 2 ? load(in.of_z + size + at, 1, place.count) : Four<T>{};
  const T g_kl = in.of_kl[model];
  Four<T> of_mu, of_logvar;
#pragma unroll
  for (int i = 0; i < kFour; ++i) {
    const T spread = z.value[i] - mu.value[i], difference = g_plus.value[i] - g_minus.value[i];
    const bool is_free = logvar.value[i] >= in.low && logvar.value[i] <= in.high;
    const T slope = width(clamped(logvar.value[i], in.low, in.high)).slope;
    of_mu.value[i] = g_plus.value[i] + g_minus.value[i] + g_kl * mu.value[i];
    of_logvar.value[i] = is_free ? T(0.5) * (difference * spread + g_kl * slope) : T(0);
  }
  store(in.of_encoded + from, of_mu, place.count);
  store(in.of_encoded + from + n, of_logvar, place.count);
}

template <class T>
__global__ void __launch_bounds__(kThreads) inputs_kernel(StepInputs<T> in, int64_t copies) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, position = *in.position;
  const int64_t fours = (in.features + kFour - 1) / kFour, of_copy = in.rows * fours;
  if (thread < in.models) {
    in.present[thread] = in.sigma2[thread] * static_cast<T>(in.factors[position]);
  }
  if (thread == 0) {
    in.scalars[0] = in.factors[position], in.scalars[1] = in.rates[position];
  }
  if (thread >= copies * of_copy) {
    return;
  }
  const int64_t copy = thread / of_copy, of_row = thread - copy * of_copy, row = of_row / fours;
  const int64_t column = (of_row - row * fours) * kFour, stream = in.streams ? in.streams[copy] : 0;
  const int64_t number = in.numbers[(position * in.n_streams + stream) * in.rows + row];
  const int count = static_cast<int>(min(in.features - column, int64_t{kFour}));
  const Four<T> four = load(in.x + number * in.features + column, 1, count);
  store(in.batch + (copy * in.rows + row) * in.features + column, four, count);
}

template <class T>
__global__ void __launch_bounds__(kThreads) end_kernel(StepEnd<T> in) {
  const int64_t model = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (model < in.models) {
    // Twice the energy at sigma2 = 1.
    const T error = in.energy[model] * static_cast<T>(2 * *in.factor) * in.sigma2[model];
    in.window[model] += static_cast<double>(error);
    in.window[in.models + model] += static_cast<double>(in.kl[model]);
    in.window[2 * in.models + model] += static_cast<double>(in.penalty[model]);
  }
  if (model == 0) {
    *in.step += 1, *in.position += 1;
  }
}

}  // namespace

template <class T>
int sample_posterior(const Sampling<T>& in, void* stream) {
  return launch(sample_kernel<T>, in.rows * in.latents == 0 ? 0 : in.models, stream, in);
}

template <class T>
int sample_posterior_backward(const SamplingGradient<T>& in, void* stream) {
  const int64_t numbers = in.rows * blocks_of(in.latents, kFour);
  return launch(sample_backward_kernel<T>, blocks_of(in.models * numbers), stream, in, numbers);
}

template <class T>
int step_inputs(const StepInputs<T>& in, void* stream) {
  const int64_t copies = in.streams ? in.models : 1, fours = copies * in.rows * blocks_of(in.features, kFour);
  return launch(inputs_kernel<T>, blocks_of(max(fours, in.models)), stream, in, copies);
}

template <class T>
int end_step(const StepEnd<T>& in, void* stream) {
  return launch(end_kernel<T>, blocks_of(in.models), stream, in);
}

#define PHASEVAE_STEPS(T)                                                       \
  template int sample_posterior<T>(const Sampling<T>&, void*);                  \
  template int sample_posterior_backward<T>(const SamplingGradient<T>&, void*); \
  template int step_inputs<T>(const StepInputs<T>&, void*);                     \
  template int end_step<T>(const StepEnd<T>&, void*);

PHASEVAE_STEPS(float)
PHASEVAE_STEPS(double)

#undef PHASEVAE_STEPS

}  // namespace phasevae::cuda
