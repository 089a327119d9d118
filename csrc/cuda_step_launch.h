// The arguments of the kernels that exist on CUDA alone, which gather what is elementwise in a training step: raw
// pointers and sizes, no types of torch or CUDA.
//
// M models, S streams of rows, B rows, A draws per row, n latents, D features.

#pragma once

#include "elbo_launch.h"

namespace phasevae {

// The posterior of an encoder's outputs, draws from it and its divergence from the prior.
template <class T>
struct Sampling {
  const T* encoded;  // [M, B, 2 n]: means, and log variances before they are clamped
  T low, high;       // to which they are clamped
  Stream stream;
  int64_t models, rows, latents, draws;
  bool is_matched;  // the noise, as by `match_moments`
  T* logvar;        // [M, B, n], clamped
  T* z;             // [M, A, B, n]
  T* kl;            // [M], the mean over rows of the sum over latents
};

template <class T>
struct SamplingGradient {
  const T* encoded;  // [M, B, 2 n]
  T low, high;
  const T* z;      // [M, A, B, n]
  const T* of_z;   // the same
  const T* of_kl;  // [M], by the divergence of a row
  T* of_encoded;   // [M, B, 2 n]
  int64_t models, rows, latents, draws;
};

// What a step reads of its block of steps.
template <class T>
struct StepInputs {
  const T* x;               // [N, D]
  const int64_t* numbers;   // [steps, S, B], of rows
  const double* factors;    // [steps], of sigma2
  const double* rates;      // [steps]
  const int64_t* position;  // [1], of the step in the block
  const int64_t* streams;   // [M], the stream of each model; null: one stream for all
  const T* sigma2;          // [M]
  T* batch;                 // [M or 1, B, D]
  T* present;               // [M], sigma2 times the factor
  double* scalars;          // [2], factor and rate
  int64_t models, n_streams, rows, features;
};

// What a step adds to the sums of the history, and the counters that it advances.
template <class T>
struct StepEnd {
  double* window;   // [3, M]
  const T* energy;  // [M], as the next three
  const T* kl;
  const T* penalty;
  const T* sigma2;
  const double* factor;
  int64_t* step;
  int64_t* position;
  int64_t models;
};

namespace cuda {

template <class T>
int sample_posterior(const Sampling<T>& in, void* stream);
template <class T>
int sample_posterior_backward(const SamplingGradient<T>& in, void* stream);
template <class T>
int step_inputs(const StepInputs<T>& in, void* stream);
template <class T>
int end_step(const StepEnd<T>& in, void* stream);

}  // namespace cuda
}  // namespace phasevae
