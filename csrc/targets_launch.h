// The arguments of the Rao-Blackwellised targets: raw pointers and sizes, no types of torch or CUDA.
//
// M models, B rows, A draws per row, n latents, D features; see phasevae/training/variance_reduction.py.

#pragma once

#include "elbo_launch.h"

namespace phasevae {

template <class T>
struct Targets {
  View<T> x;           // [M, B, D], unit stride of columns
  const T* mean;       // [D], of the data; null: no control variate
  View<T> mu, logvar;  // [M, B, n]
  const T* z;          // [M, A, B, n]
  const T* decoded;    // [M, A, B, D], the decoder's means of z
  T* targets;          // [M, A, B, D]
  int64_t models, draws, rows, latents, features;
  int64_t group;  // rows of a group, a divisor of B
};

// The rows in the first half of a batch, whole groups.
template <class T>
inline int64_t first_half(const Targets<T>& in) {
  return in.rows / in.group / 2 * in.group;
}

template <class T>
inline bool has_control_variate(const Targets<T>& in) {
  return in.mean && first_half(in) > 0;
}

// The objective of a Gaussian decoder, with the mean over rows and draws, and its derivatives by `targets.decoded`: for
// the rows and for the targets.
template <class T>
struct GaussianObjective {
  Targets<T> targets;  // its `targets` are not written
  const T* sigma2;     // [M]
  T* of_rows;          // [M, A, B, D]
  T* of_targets;       // [M, A, B, D]
  T* energy;           // [M], the mean of |x - decoded|^2 / (2 sigma2)
};

namespace cpu {

constexpr int kDrawsAtOnce = 8;  // draws whose weights are computed together

// Numbers of scratch memory that a thread needs for `targets`.
template <class T>
inline int64_t targets_scratch(const Targets<T>& in) {
  constexpr int64_t kPadding = 16;  // the stripes of a sum
  return (2 * in.latents + 1 + kDrawsAtOnce) * (in.group + kPadding);
}

// The control variates [M, 2, D] of models [begin, end), one for the rows of each half; zeros where there are none.
// Then the targets of groups [begin, end) of the M * B / group groups.
#define PHASEVAE_CPU_TARGETS(T)                                                         \
  void control_variates(const Targets<T>& in, T* variates, int64_t begin, int64_t end); \
  void targets(const Targets<T>& in, const T* variates, T* scratch, int64_t begin, int64_t end);

PHASEVAE_CPU_TARGETS(float)
PHASEVAE_CPU_TARGETS(double)

#undef PHASEVAE_CPU_TARGETS

}  // namespace cpu

// CUDA launchers, as in elbo_launch.h; two launches. variates: [M, 2, D] of scratch memory.
namespace cuda {

template <class T>
int targets(const Targets<T>& in, T* variates, void* stream);
template <class T>
int gaussian_objective(const GaussianObjective<T>& in, T* variates, void* stream);

}  // namespace cuda
}  // namespace phasevae
