// What a kernel is called with: raw pointers and sizes, no type of torch's and none of CUDA's.
//
// M models, B rows, A draws a row (2 when antithetic), n latents, D features. T is float or double.

#pragma once

#include <cstdint>

namespace phasevae {

// A read-only array [M, B, n] with strides in elements; 0 broadcasts.
template <class T>
struct View {
  const T* data;
  int64_t model, row, column;
};

// The stream of draws: model m has key keys[m]; the step is step + *device_step, the latter when it is not null.
struct Stream {
  const int64_t* keys;
  int64_t step;
  const int64_t* device_step;
};

template <class T>
struct Posterior {
  View<T> mu, logvar;  // [M, B, n]
  Stream stream;
  int64_t models, rows, latents, draws;
};

template <class T>
struct Sample {
  T* z;   // [M, A, B, n]
  T* kl;  // [M, B, n]
};

// What the derivatives of a sample need: its first draw tells the noise, z[0] - mu = e^(logvar/2) eps.
template <class T>
struct Sampled {
  View<T> mu, logvar, z;  // [M, B, n]
  int64_t models, rows, latents, draws;
};

template <class T>
struct SampleGradient {
  View<T> z[2];  // of each draw, [M, B, n]; the second is unused when there is one draw
  View<T> kl;    // [M, B, n]
  T* mu;         // [M, B, n]
  T* logvar;     // [M, B, n]
};

template <class T>
struct Residual {
  View<T> x;        // [M, B, D], unit stride of columns
  const T* xhat;    // [M, A, B, D]
  const T* sigma2;  // [M]
  int64_t models, draws, rows, features;
};

template <class T>
struct ResidualGradient {
  View<T> nll;  // [M, A, B]
  T* xhat;      // [M, A, B, D]
};

template <class T>
struct Adam {
  T* parameters;  // [M, P], as the next three
  const T* gradients;
  T* first_moment;
  T* second_moment;
  const T* learning_rates;  // [M]
  const bool* active;       // [M]; a model that is not stays as it is
  const int64_t* steps_done;
  double beta1, beta2, epsilon;
  int64_t models, size;
};

// CUDA launchers. `stream` is a cudaStream_t; they allocate nothing, wait for nothing and ask the device nothing, so
// they can be captured into a graph. They return a cudaError_t, 0 for success.
namespace cuda {

template <class T>
int reparam_kl(const Posterior<T>& in, const Sample<T>& out, void* stream);
template <class T>
int reparam_kl_backward(const Sampled<T>& in, const SampleGradient<T>& gradient, void* stream);
template <class T>
int reparam_eps(const Stream& in, int64_t models, int64_t rows, int64_t latents, T* eps, void* stream);
template <class T>
int gaussian_nll(const Residual<T>& in, T* nll, void* stream);
template <class T>
int gaussian_nll_backward(const Residual<T>& in, const ResidualGradient<T>& gradient, void* stream);
template <class T>
int adam_step(const Adam<T>& in, void* stream);
const char* error_string(int error);

}  // namespace cuda

// CPU kernels over rows [begin, end) of the M * B (or M * A * B) rows, resp. elements of the M * P: one thread's share.
namespace cpu {

#define PHASEVAE_CPU_KERNELS(T)                                                                                \
  void reparam_kl(const Posterior<T>& in, const Sample<T>& out, int64_t begin, int64_t end);                   \
  void reparam_kl_backward(const Sampled<T>& in, const SampleGradient<T>& g, int64_t begin, int64_t end);      \
  void reparam_eps(const Stream& in, int64_t rows, int64_t latents, T* eps, int64_t begin, int64_t end);       \
  void gaussian_nll(const Residual<T>& in, T* nll, int64_t begin, int64_t end);                                \
  void gaussian_nll_backward(const Residual<T>& in, const ResidualGradient<T>& g, int64_t begin, int64_t end); \
  void adam_step(const Adam<T>& in, int64_t begin, int64_t end);

PHASEVAE_CPU_KERNELS(float)
PHASEVAE_CPU_KERNELS(double)

#undef PHASEVAE_CPU_KERNELS

}  // namespace cpu
}  // namespace phasevae
