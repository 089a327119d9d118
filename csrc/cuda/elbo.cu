// The CUDA kernels and their launchers. They use no atomics, so a result is the same every time.

#include <cuda_runtime.h>

#include <cstdint>

#include "../elbo_launch.h"
#include "../elbo_math.h"
#include "../elbo_residual.h"
#include "launch.h"
#include "places.h"

namespace phasevae::cuda {
namespace {

constexpr int kAdamNumbers = 4;  // of a thread, so that their loads overlap

// Kernels have an Index, uint32_t where it holds the number of threads: a division of 64 bits has many instructions.
template <class Index>
__device__ __forceinline__ Index thread_number() {
  return static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
}

template <class Index>
__device__ __forceinline__ bool find_place(int64_t models, int64_t rows, int64_t latents, Place& place) {
  const Index blocks = static_cast<Index>(latents + kFour - 1) / kFour;
  const Index thread = thread_number<Index>(), row = thread / blocks;
  if (row >= static_cast<Index>(models * rows)) {
    return false;
  }
  const Index model = row / static_cast<Index>(rows);
  place.model = model;
  place.row = row - model * static_cast<Index>(rows);
  place.column = static_cast<int64_t>(thread - row * blocks) * kFour;
  place.count = static_cast<int>(min(latents - place.column, static_cast<int64_t>(kFour)));
  return true;
}

template <class T, class Index>
__global__ void __launch_bounds__(kThreads) reparam_kl_kernel(Posterior<T> in, Sample<T> out) {
  Place place;
  if (!find_place<Index>(in.models, in.rows, in.latents, place)) {
    return;
  }
  const Four<T> mu = load_at(in.mu, place), logvar = load_at(in.logvar, place), eps = draw<T>(in.stream, place);
  Four<T> plus, minus, kl;
#pragma unroll
  for (int i = 0; i < kFour; ++i) {
    const Width<T> w = width(logvar.value[i]);
    const T spread = w.scale * eps.value[i];
    plus.value[i] = mu.value[i] + spread;
    minus.value[i] = mu.value[i] - spread;
    kl.value[i] = T(0.5) * (mu.value[i] * mu.value[i] + w.excess);
  }
  const int64_t model_size = in.rows * in.latents, inside = place.row * in.latents + place.column;
  T* z = out.z + place.model * in.draws * model_size + inside;
  store(z, plus, place.count);
  if (in.draws == 2) {
    store(z + model_size, minus, place.count);
  }
  store(out.kl + place.model * model_size + inside, kl, place.count);
}

template <class T, class Index>
__global__ void __launch_bounds__(kThreads) reparam_kl_backward_kernel(Sampled<T> in, SampleGradient<T> g) {
  Place place;
  if (!find_place<Index>(in.models, in.rows, in.latents, place)) {
    return;
  }
  const Four<T> mu = load_at(in.mu, place), logvar = load_at(in.logvar, place), z = load_at(in.z, place);
  const Four<T> g_kl = load_at(g.kl, place), g_plus = load_at(g.z[0], place);
  const Four<T> g_minus = in.draws == 2 ? load_at(g.z[1], place) : Four<T>{};
  Four<T> of_mu, of_logvar;
#pragma unroll
  for (int i = 0; i < kFour; ++i) {
    const T spread = z.value[i] - mu.value[i], difference = g_plus.value[i] - g_minus.value[i];
    of_mu.value[i] = g_plus.value[i] + g_minus.value[i] + g_kl.value[i] * mu.value[i];
    of_logvar.value[i] = T(0.5) * (difference * spread + g_kl.value[i] * width(logvar.value[i]).slope);
  }
  const int64_t offset = (place.model * in.rows + place.row) * in.latents + place.column;
  store(g.mu + offset, of_mu, place.count);
  store(g.logvar + offset, of_logvar, place.count);
}

template <class T, class Index>
__global__ void __launch_bounds__(kThreads)
    normals_kernel(Stream in, int64_t models, int64_t rows, int64_t latents, T* out) {
  Place place;
  if (find_place<Index>(models, rows, latents, place)) {
    T* to = out + (place.model * rows + place.row) * latents + place.column;
    store(to, draw<T>(in, place), place.count);
  }
}

// A group of neighbours, 2^bits up to a warp, computes one row. The sum covers the lanes of the group alone, since the
// rest of the warp may have no row left.
template <class T>
__device__ __forceinline__ T sum_of_group(T value, int bits) {
  const unsigned lanes = 1u << bits, first = threadIdx.x % kWarp >> bits << bits;
  const unsigned mask = (lanes == kWarp ? ~0u : (1u << lanes) - 1u) << first;
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(mask, value, distance);
  }
  return value;
}

template <class Term, class T, class Index>
__global__ void __launch_bounds__(kThreads) nll_kernel(Residual<T> in, T* nll, int bits) {
  const Index at = thread_number<Index>() >> bits;
  if (at >= static_cast<Index>(in.models * in.draws * in.rows)) {
    return;
  }
  const Rows<T> rows = rows_at(in, at);
  const int lane = threadIdx.x & ((1 << bits) - 1);
  T sum = 0;
  for (int64_t i = kFour * lane; i < in.features; i += kFour << bits) {
    const int count = static_cast<int>(min(in.features - i, static_cast<int64_t>(kFour)));
    const Four<T> x = load(rows.x + i, 1, count), outputs = load(rows.outputs + i, 1, count);
#pragma unroll
    for (int k = 0; k < kFour; ++k) {
      sum += k < count ? Term::value(x.value[k], outputs.value[k]) : T(0);
    }
  }
  sum = sum_of_group(sum, bits);
  if (lane == 0) {
    nll[at] = Term::scaled(sum, in.sigma2[rows.model]);
  }
}

template <class Term, class T, class Index>
__global__ void __launch_bounds__(kThreads) nll_backward_kernel(Residual<T> in, ResidualGradient<T> g, int bits) {
  const Index at = thread_number<Index>() >> bits;
  if (at >= static_cast<Index>(in.models * in.draws * in.rows)) {
    return;
  }
  const Rows<T> rows = rows_at(in, at);
  const int lane = threadIdx.x & ((1 << bits) - 1);
  const T factor = slope(in, g, rows);
  for (int64_t i = kFour * lane; i < in.features; i += kFour << bits) {
    const int count = static_cast<int>(min(in.features - i, static_cast<int64_t>(kFour)));
    const Four<T> x = load(rows.x + i, 1, count), outputs = load(rows.outputs + i, 1, count);
    Four<T> of_outputs;
#pragma unroll
    for (int k = 0; k < kFour; ++k) {
      of_outputs.value[k] = factor * Term::slope(x.value[k], outputs.value[k]);
    }
    store(g.outputs + static_cast<int64_t>(at) * in.features + i, of_outputs, count);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) adam_kernel(Adam<T> in) {
  __shared__ AdamFactors<T> factors;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * (kThreads * kAdamNumbers) + threadIdx.x;
  T gradient[kAdamNumbers], parameter[kAdamNumbers], first_moment[kAdamNumbers], second_moment[kAdamNumbers];
  // The loads are under way while one thread computes the factors of its block, with two powers in double.
#pragma unroll
  for (int k = 0; k < kAdamNumbers; ++k) {
    if (const int64_t i = first + k * kThreads; i < in.size) {
      gradient[k] = in.gradients[i], parameter[k] = in.parameters[i];
      first_moment[k] = in.first_moment[i], second_moment[k] = in.second_moment[i];
    }
  }
  if (threadIdx.x == 0) {
    factors = adam_factors<T>(*in.learning_rate, in.beta1, in.beta2, in.epsilon, *in.steps_done);
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kAdamNumbers; ++k) {
    if (const int64_t i = first + k * kThreads; i < in.size) {
      adam(factors, gradient[k], parameter[k], first_moment[k], second_moment[k]);
      in.parameters[i] = parameter[k], in.first_moment[i] = first_moment[k], in.second_moment[i] = second_moment[k];
    }
  }
}

int64_t counters(int64_t rows, int64_t latents) { return rows * ((latents + kFour - 1) / kFour); }

// The binary logarithm of the lanes that compute a row: each has at least four numbers if there are so many.
int bits_for(int64_t features) {
  int bits = 0;
  while ((1 << bits) < kWarp && (int64_t{kFour} << bits) < features) {
    ++bits;
  }
  return bits;
}

}  // namespace

template <class T>
int reparam_kl(const Posterior<T>& in, const Sample<T>& out, void* stream) {
  const int64_t threads = counters(in.models * in.rows, in.latents);
  const auto kernel = fits(threads) ? reparam_kl_kernel<T, uint32_t> : reparam_kl_kernel<T, uint64_t>;
  return launch(kernel, blocks_of(threads), stream, in, out);
}

template <class T>
int reparam_kl_backward(const Sampled<T>& in, const SampleGradient<T>& gradient, void* stream) {
  const int64_t threads = counters(in.models * in.rows, in.latents);
  const auto kernel = fits(threads) ? reparam_kl_backward_kernel<T, uint32_t> : reparam_kl_backward_kernel<T, uint64_t>;
  return launch(kernel, blocks_of(threads), stream, in, gradient);
}

template <class T>
int normals(const Stream& in, int64_t models, int64_t rows, int64_t latents, T* eps, void* stream) {
  const int64_t threads = counters(models * rows, latents);
  const auto kernel = fits(threads) ? normals_kernel<T, uint32_t> : normals_kernel<T, uint64_t>;
  return launch(kernel, blocks_of(threads), stream, in, models, rows, latents, eps);
}

template <class Term, class T>
int nll(Term, const Residual<T>& in, T* nll, void* stream) {
  const int bits = bits_for(in.features);
  const int64_t threads = in.models * in.draws * in.rows << bits;
  const auto kernel = fits(threads) ? nll_kernel<Term, T, uint32_t> : nll_kernel<Term, T, uint64_t>;
  return launch(kernel, blocks_of(threads), stream, in, nll, bits);
}

template <class Term, class T>
int nll_backward(Term, const Residual<T>& in, const ResidualGradient<T>& gradient, void* stream) {
  const int bits = bits_for(in.features);
  const int64_t threads = in.models * in.draws * in.rows << bits;
  const auto kernel = fits(threads) ? nll_backward_kernel<Term, T, uint32_t> : nll_backward_kernel<Term, T, uint64_t>;
  return launch(kernel, blocks_of(threads), stream, in, gradient, bits);
}

template <class T>
int adam_step(const Adam<T>& in, void* stream) {
  return launch(adam_kernel<T>, blocks_of(in.size, kThreads * kAdamNumbers), stream, in);
}

const char* error_string(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

#define PHASEVAE_TERM(Term, T)                                    \
  template int nll<Term, T>(Term, const Residual<T>&, T*, void*); \
  template int nll_backward<Term, T>(Term, const Residual<T>&, const ResidualGradient<T>&, void*);

#define PHASEVAE_LAUNCHERS(T)                                                              \
  template int reparam_kl<T>(const Posterior<T>&, const Sample<T>&, void*);                \
  template int reparam_kl_backward<T>(const Sampled<T>&, const SampleGradient<T>&, void*); \
  template int normals<T>(const Stream&, int64_t, int64_t, int64_t, T*, void*);            \
  template int adam_step<T>(const Adam<T>&, void*);                                        \
  PHASEVAE_TERM(Gaussian, T)                                                               \
  PHASEVAE_TERM(Bernoulli, T)

PHASEVAE_LAUNCHERS(float)
PHASEVAE_LAUNCHERS(double)

#undef PHASEVAE_LAUNCHERS
#undef PHASEVAE_TERM

}  // namespace phasevae::cuda
