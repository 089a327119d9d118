// Moment-matched noise: formulas and the order of sums, shared by host and device.
//
// The noise eps of a batch becomes eps C^(-1/2), with C = eps^T eps / B; see phasevae/training/variance_reduction.py.

#pragma once

#include "elbo_launch.h"
#include "elbo_math.h"

namespace phasevae {

// A block of threads has one for each entry of C, and for as many stripes of rows as there are threads left. The sum of
// an entry is that of a stripe's rows, in their order, and then that over the stripes.
constexpr int kMomentThreads = 256;
static_assert(kMostMatched * kMostMatched <= kMomentThreads);

PHASEVAE_INLINE int stripes_of(int latents) { return kMomentThreads / (latents * latents); }

constexpr int kNewtonSchulzSteps = 6;

template <class T>
PHASEVAE_INLINE T deviation(T logvar) {
  return exponential(T(0.5) * logvar);
}

template <class T>
PHASEVAE_INLINE T noise_of(T z, T mu, T logvar) {
  return (z - mu) / deviation(logvar);
}

template <class T>
PHASEVAE_INLINE T with_noise(T mu, T logvar, T eps) {
  return mu + deviation(logvar) * eps;
}

// Entry (i, j) of a product of two matrices [n, n].
template <class T>
PHASEVAE_INLINE T product(const T* a, const T* b, int n, int i, int j) {
  T sum = 0;
  for (int k = 0; k < n; ++k) {
    sum += a[i * n + k] * b[k * n + j];
  }
  return sum;
}

// An entry of the factor of a step of the Newton-Schulz iteration, (3 - inverse root) / 2, from that of inverse root.
template <class T>
PHASEVAE_INLINE T newton_schulz(bool on_diagonal, T product) {
  return (on_diagonal ? T(1.5) : T(0)) - T(0.5) * product;
}

template <class T>
PHASEVAE_INLINE T newton_schulz(const T* inverse, const T* root, int n, int i, int j) {
  return newton_schulz(i == j, product(inverse, root, n, i, j));
}

}  // namespace phasevae
