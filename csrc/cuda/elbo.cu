// The CUDA kernels and their launchers. They use no atomics, so a result is the same every time.

#include <cuda_runtime.h>

#include <algorithm>

#include "../elbo_launch.h"
#include "../elbo_math.h"
#include "../elbo_residual.h"

namespace phasevae::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

// A thread draws one counter's four numbers: those of latents [column, column + 4) of one row.
struct Place {
  int64_t model, row, column;
  int count;  // how many of the four exist
};

__device__ __forceinline__ bool find_place(int64_t models, int64_t rows, int64_t latents, Place& place) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t blocks = (latents + kWordsPerCounter - 1) / kWordsPerCounter;
  const int64_t row = index / blocks;
  if (row >= models * rows) {
    return false;
  }
  place.model = row / rows;
  place.row = row % rows;
  place.column = index % blocks * kWordsPerCounter;
  place.count = static_cast<int>(min(latents - place.column, static_cast<int64_t>(kWordsPerCounter)));
  return true;
}

template <class T>
__device__ __forceinline__ void draw(const Stream& stream, const Place& place, T (&eps)[kWordsPerCounter]) {
  const uint64_t key = static_cast<uint64_t>(stream.keys[place.model]);
  const int64_t on_device = stream.device_steps ? stream.device_steps[place.model * stream.stride] : 0;
  const uint64_t step = static_cast<uint64_t>(stream.step + on_device);
  uint32_t c0 = static_cast<uint32_t>(place.column / kWordsPerCounter), c1 = static_cast<uint32_t>(place.row);
  uint32_t c2 = static_cast<uint32_t>(step), c3 = static_cast<uint32_t>(step >> 32);
  philox(c0, c1, c2, c3, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
  box_muller(c0, c1, eps[0], eps[1]);
  box_muller(c2, c3, eps[2], eps[3]);
}

template <class T>
__device__ __forceinline__ T at(const View<T>& view, const Place& place, int i) {
  return view.data[place.model * view.model + place.row * view.row + (place.column + i) * view.column];
}

template <class T>
__global__ void __launch_bounds__(kThreads) reparam_kl_kernel(Posterior<T> in, Sample<T> out) {
  Place place;
  if (!find_place(in.models, in.rows, in.latents, place)) {
    return;
  }
  T eps[kWordsPerCounter];
  draw(in.stream, place, eps);
  const int64_t model_size = in.rows * in.latents, inside = place.row * in.latents + place.column;
  T* kl = out.kl + place.model * model_size + inside;
  T* plus = out.z + place.model * in.draws * model_size + inside;
#pragma unroll
  for (int i = 0; i < kWordsPerCounter; ++i) {
    if (i < place.count) {
      const T mu = at(in.mu, place, i);
      const Width<T> w = width(at(in.logvar, place, i));
      const T spread = w.scale * eps[i];
      plus[i] = mu + spread;
      if (in.draws == 2) {
        plus[model_size + i] = mu - spread;
      }
      kl[i] = T(0.5) * (mu * mu + w.excess);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) reparam_kl_backward_kernel(Sampled<T> in, SampleGradient<T> g) {
  Place place;
  if (!find_place(in.models, in.rows, in.latents, place)) {
    return;
  }
  const int64_t offset = (place.model * in.rows + place.row) * in.latents + place.column;
#pragma unroll
  for (int i = 0; i < kWordsPerCounter; ++i) {
    if (i < place.count) {
      const T mu = at(in.mu, place, i), spread = at(in.z, place, i) - mu;
      const T g_kl = at(g.kl, place, i), g_plus = at(g.z[0], place, i);
      const T g_minus = in.draws == 2 ? at(g.z[1], place, i) : T(0);
      g.mu[offset + i] = g_plus + g_minus + g_kl * mu;
      g.logvar[offset + i] = T(0.5) * ((g_plus - g_minus) * spread + g_kl * width(at(in.logvar, place, i)).slope);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    normals_kernel(Stream in, int64_t models, int64_t rows, int64_t latents, T* out) {
  Place place;
  if (!find_place(models, rows, latents, place)) {
    return;
  }
  T eps[kWordsPerCounter];
  draw(in, place, eps);
  T* to = out + (place.model * rows + place.row) * latents + place.column;
#pragma unroll
  for (int i = 0; i < kWordsPerCounter; ++i) {
    if (i < place.count) {
      to[i] = eps[i];
    }
  }
}

// A group of `lanes` neighbours, a power of two up to a warp, computes one row. The sum covers the lanes of the group
// alone, since the rest of the warp may have no row left.
template <class T>
__device__ __forceinline__ T sum_of_group(T value, int lanes) {
  const unsigned first = threadIdx.x % kWarp / lanes * lanes;
  const unsigned mask = (lanes == kWarp ? ~0u : (1u << lanes) - 1u) << first;
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(mask, value, distance);
  }
  return value;
}

__device__ __forceinline__ int64_t row_of_group(int lanes) {
  return (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / lanes;
}

template <class T>
__global__ void __launch_bounds__(kThreads) gaussian_nll_kernel(Residual<T> in, T* nll, int lanes) {
  const int64_t at = row_of_group(lanes);
  if (at >= in.models * in.draws * in.rows) {
    return;
  }
  const Rows<T> rows = rows_at(in, at);
  const int lane = threadIdx.x % lanes;
  T sum = 0;
  for (int64_t i = lane; i < in.features; i += lanes) {
    const T residual = rows.xhat[i] - rows.x[i];
    sum += residual * residual;
  }
  sum = sum_of_group(sum, lanes);
  if (lane == 0) {
    nll[at] = T(0.5) / in.sigma2[rows.model] * sum;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    gaussian_nll_backward_kernel(Residual<T> in, ResidualGradient<T> g, int lanes) {
  const int64_t at = row_of_group(lanes);
  if (at >= in.models * in.draws * in.rows) {
    return;
  }
  const Rows<T> rows = rows_at(in, at);
  const T factor = slope(in, g, rows);
  for (int64_t i = threadIdx.x % lanes; i < in.features; i += lanes) {
    g.xhat[at * in.features + i] = factor * (rows.xhat[i] - rows.x[i]);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) bernoulli_nll_kernel(Residual<T> in, T* nll, int lanes) {
  const int64_t at = row_of_group(lanes);
  if (at >= in.models * in.draws * in.rows) {
    return;
  }
  const Rows<T> rows = rows_at(in, at);
  const int lane = threadIdx.x % lanes;
  T sum = 0;
  for (int64_t i = lane; i < in.features; i += lanes) {
    const T logit = rows.xhat[i];
    sum += softplus(logit).value - rows.x[i] * logit;
  }
  sum = sum_of_group(sum, lanes);
  if (lane == 0) {
    nll[at] = sum / in.sigma2[rows.model];
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    bernoulli_nll_backward_kernel(Residual<T> in, ResidualGradient<T> g, int lanes) {
  const int64_t at = row_of_group(lanes);
  if (at >= in.models * in.draws * in.rows) {
    return;
  }
  const Rows<T> rows = rows_at(in, at);
  const T factor = slope(in, g, rows);
  for (int64_t i = threadIdx.x % lanes; i < in.features; i += lanes) {
    g.xhat[at * in.features + i] = factor * (softplus(rows.xhat[i]).slope - rows.x[i]);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) adam_kernel(Adam<T> in) {
  // One thread computes the factors for its block. The rate is rounded to T, as torch's fused Adam does on CUDA.
  __shared__ AdamFactors<T> factors;
  if (threadIdx.x == 0) {
    const T rate = static_cast<T>(*in.learning_rate);
    factors = adam_factors<T>(rate, in.beta1, in.beta2, in.epsilon, *in.steps_done);
  }
  __syncthreads();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < in.size) {
    adam(factors, in.gradients[i], in.parameters[i], in.first_moment[i], in.second_moment[i]);
  }
}

// The number of blocks for a number of threads; 0 if there is nothing to do.
unsigned blocks_for(int64_t threads) { return static_cast<unsigned>((threads + kThreads - 1) / kThreads); }

unsigned blocks_for_counters(int64_t rows, int64_t latents) {
  return blocks_for(rows * ((latents + kWordsPerCounter - 1) / kWordsPerCounter));
}

int lanes_for(int64_t columns) {
  int lanes = 1;
  while (lanes < kWarp && lanes < columns) {
    lanes *= 2;
  }
  return lanes;
}

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

template <class T>
int reparam_kl(const Posterior<T>& in, const Sample<T>& out, void* stream) {
  const unsigned blocks = blocks_for_counters(in.models * in.rows, in.latents);
  if (blocks > 0) {
    reparam_kl_kernel<<<blocks, kThreads, 0, stream_of(stream)>>>(in, out);
  }
  return cudaGetLastError();
}

template <class T>
int reparam_kl_backward(const Sampled<T>& in, const SampleGradient<T>& gradient, void* stream) {
  const unsigned blocks = blocks_for_counters(in.models * in.rows, in.latents);
  if (blocks > 0) {
    reparam_kl_backward_kernel<<<blocks, kThreads, 0, stream_of(stream)>>>(in, gradient);
  }
  return cudaGetLastError();
}

template <class T>
int normals(const Stream& in, int64_t models, int64_t rows, int64_t latents, T* eps, void* stream) {
  const unsigned blocks = blocks_for_counters(models * rows, latents);
  if (blocks > 0) {
    normals_kernel<<<blocks, kThreads, 0, stream_of(stream)>>>(in, models, rows, latents, eps);
  }
  return cudaGetLastError();
}

template <class T>
int gaussian_nll(const Residual<T>& in, T* nll, void* stream) {
  const int lanes = lanes_for(in.features);
  const unsigned blocks = blocks_for(in.models * in.draws * in.rows * lanes);
  if (blocks > 0) {
    gaussian_nll_kernel<<<blocks, kThreads, 0, stream_of(stream)>>>(in, nll, lanes);
  }
  return cudaGetLastError();
}

template <class T>
int gaussian_nll_backward(const Residual<T>& in, const ResidualGradient<T>& gradient, void* stream) {
  const int lanes = lanes_for(in.features);
  const unsigned blocks = blocks_for(in.models * in.draws * in.rows * lanes);
  if (blocks > 0) {
    gaussian_nll_backward_kernel<<<blocks, kThreads, 0, stream_of(stream)>>>(in, gradient, lanes);
  }
  return cudaGetLastError();
}

template <class T>
int bernoulli_nll(const Residual<T>& in, T* nll, void* stream) {
  const int lanes = lanes_for(in.features);
  const unsigned blocks = blocks_for(in.models * in.draws * in.rows * lanes);
  if (blocks > 0) {
    bernoulli_nll_kernel<<<blocks, kThreads, 0, stream_of(stream)>>>(in, nll, lanes);
  }
  return cudaGetLastError();
}

template <class T>
int bernoulli_nll_backward(const Residual<T>& in, const ResidualGradient<T>& gradient, void* stream) {
  const int lanes = lanes_for(in.features);
  const unsigned blocks = blocks_for(in.models * in.draws * in.rows * lanes);
  if (blocks > 0) {
    bernoulli_nll_backward_kernel<<<blocks, kThreads, 0, stream_of(stream)>>>(in, gradient, lanes);
  }
  return cudaGetLastError();
}

template <class T>
int adam_step(const Adam<T>& in, void* stream) {
  const unsigned blocks = blocks_for(in.size);
  if (blocks > 0) {
    adam_kernel<<<blocks, kThreads, 0, stream_of(stream)>>>(in);
  }
  return cudaGetLastError();
}

const char* error_string(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

#define PHASEVAE_LAUNCHERS(T)                                                                    \
  template int reparam_kl<T>(const Posterior<T>&, const Sample<T>&, void*);                      \
  template int reparam_kl_backward<T>(const Sampled<T>&, const SampleGradient<T>&, void*);       \
  template int normals<T>(const Stream&, int64_t, int64_t, int64_t, T*, void*);                  \
  template int gaussian_nll<T>(const Residual<T>&, T*, void*);                                   \
  template int gaussian_nll_backward<T>(const Residual<T>&, const ResidualGradient<T>&, void*);  \
  template int bernoulli_nll<T>(const Residual<T>&, T*, void*);                                  \
  template int bernoulli_nll_backward<T>(const Residual<T>&, const ResidualGradient<T>&, void*); \
  template int adam_step<T>(const Adam<T>&, void*);

PHASEVAE_LAUNCHERS(float)
PHASEVAE_LAUNCHERS(double)

#undef PHASEVAE_LAUNCHERS

}  // namespace phasevae::cuda
