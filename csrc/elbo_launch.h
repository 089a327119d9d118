// The arguments of the kernels: raw pointers and sizes, no types of torch or CUDA.
//
// M models, B rows, A draws per row (2 if antithetic), n latents, D features. T is float or double.

#pragma once

#include <cstdint>

namespace phasevae {

// A read-only array [M, B, n] with strides in elements; 0 broadcasts.
template <class T>
struct View {
  const T* data;
  int64_t model, row, column;
};

// The noise streams: model m has the key keys[m] and draws at the step `step` + device_steps[m * stride]. The latter
// counts if it is not null; its stride is 0 for a step that all models share.
struct Stream {
  const int64_t* keys;
  int64_t step;
  const int64_t* device_steps;
  int64_t stride;
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

// What the derivatives of a sample need. The noise follows from the first draw: z[0] - mu = e^(logvar/2) eps.
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

// The reconstruction terms, in elbo_math.h.
struct Gaussian;
struct Bernoulli;

template <class T>
struct Residual {
  View<T> x;         // [M, B, D], unit stride of columns
  const T* outputs;  // [M, A, B, D], of the decoder: means, or logits
  const T* sigma2;   // [M]
  int64_t models, draws, rows, features;
};

template <class T>
struct ResidualGradient {
  View<T> nll;  // [M, A, B]
  T* outputs;   // [M, A, B, D]
};

// The most latents whose noise is matched by one operation.
constexpr int kMostMatched = 16;

template <class T>
struct Matching {
  View<T> mu, logvar;  // [M, B, n]
  const T* z;          // [M, A, B, n]
  T* matched;          // the same, with matched noise
  int64_t models, draws, rows, latents;
};

template <class T>
struct Values {
  const T* data;  // [M, size], of R rows
  int64_t models, size, rows;
};

template <class T>
struct Adam {
  T* parameters;  // [size], as the next three
  const T* gradients;
  T* first_moment;
  T* second_moment;
  const double* learning_rate;  // on the device
  const int64_t* steps_done;    // on the device, the number of steps before this update
  double beta1, beta2, epsilon;
  int64_t size;
};

// CUDA launchers; `stream` is a cudaStream_t. They allocate nothing, wait for nothing and do not query the device, so
// they can be captured into a graph. They return a cudaError_t, 0 for success.
namespace cuda {

template <class T>
int reparam_kl(const Posterior<T>& in, const Sample<T>& out, void* stream);
template <class T>
int reparam_kl_backward(const Sampled<T>& in, const SampleGradient<T>& gradient, void* stream);
template <class T>
int normals(const Stream& in, int64_t models, int64_t rows, int64_t latents, T* eps, void* stream);
template <class Term, class T>
int nll(Term, const Residual<T>& in, T* nll, void* stream);
template <class Term, class T>
int nll_backward(Term, const Residual<T>& in, const ResidualGradient<T>& gradient, void* stream);
template <class T>
int match_moments(const Matching<T>& in, void* stream);
template <class T>
int adam_step(const Adam<T>& in, void* stream);
const char* error_string(int error);

}  // namespace cuda

// CPU kernels for one thread's share: rows [begin, end) of the M * B (or M * A * B) rows, or models [begin, end);
// of Adam, numbers [begin, end).
namespace cpu {

#define PHASEVAE_CPU_TERM(Term, T)                                           \
  void nll(Term, const Residual<T>& in, T* nll, int64_t begin, int64_t end); \
  void nll_backward(Term, const Residual<T>& in, const ResidualGradient<T>& g, int64_t begin, int64_t end);

#define PHASEVAE_CPU_KERNELS(T)                                                                           \
  void reparam_kl(const Posterior<T>& in, const Sample<T>& out, int64_t begin, int64_t end);              \
  void reparam_kl_backward(const Sampled<T>& in, const SampleGradient<T>& g, int64_t begin, int64_t end); \
  void normals(const Stream& in, int64_t rows, int64_t latents, T* eps, int64_t begin, int64_t end);      \
  void match_moments(const Matching<T>& in, int64_t begin, int64_t end);                                  \
  void adam_step(const Adam<T>& in, int64_t begin, int64_t end);                                          \
  void mean_over_rows(const Values<T>& in, T* means, int64_t begin, int64_t end);                         \
  PHASEVAE_CPU_TERM(Gaussian, T)                                                                          \
  PHASEVAE_CPU_TERM(Bernoulli, T)

PHASEVAE_CPU_KERNELS(float)
PHASEVAE_CPU_KERNELS(double)

#undef PHASEVAE_CPU_KERNELS
#undef PHASEVAE_CPU_TERM

}  // namespace cpu
}  // namespace phasevae
