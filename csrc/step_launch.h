// The arguments of training steps on the CPU: raw pointers and sizes, no types of torch; float32.
//
// M models, S streams of rows, K steps, B rows, A draws per row, n latents, E numbers that the encoder sees of a row, D
// features and as many outputs of the decoder.

#pragma once

#include <optional>

#include "cpu/scratch.h"
#include "elbo_launch.h"
#include "mlp_launch.h"

namespace phasevae {

enum class Family { kGaussian, kBernoulli };

struct Steps {
  // The rows in memory, contiguous; `inputs` may be `x`.
  const float* inputs;       // [N, E]
  const float* x;            // [N, D]
  const int64_t* rows;       // [K, S, B], their numbers
  const int64_t* streams;    // [M], the stream that each model sees
  const double* factors;     // [K], of sigma2
  const double* rates;       // [K]
  int64_t first;             // the number of the first of the K steps
  const float* sigma2;       // [M]
  const float* beta;         // [M]
  const float* of_kl;        // [M], the derivative of the objective by the KL divergence of a row
  const int64_t* keys;       // [M]
  const float* mean;         // [D], of the data; null: no control variate
  const float* offset;       // [D], added to the outputs of the decoder; null: zeros
  Network encoder, decoder;  // whose first weights are in `parameters`
  Family family;
  bool is_matched;  // whether the noise is moment-matched
  float least_logvar, most_logvar;
  double beta1, beta2, epsilon;
  float* parameters;  // [M, row], as the next three
  float* gradients;
  float* first_moment;
  float* second_moment;
  double* window;  // [3, M], sums over the steps: twice the energy at sigma2 = 1, KL, weighted KL
  int64_t row, models, streams_of_rows, steps, batch, draws, latents, n_inputs, features;
  int64_t group;  // of the Rao-Blackwellised targets; 1: the rows themselves
};

namespace cpu {

// Memory of one thread for the steps of any model.
class StepMemory {
 public:
  explicit StepMemory(const Steps& in);

  float *input, *x, *encoded, *logvar, *drawn, *z, *kl, *outputs, *means, *energies, *of_rows, *targets, *of_targets,
      *of_z, *of_mu, *of_logvar, *of_encoded, *variates, *zeros, *encoder_tape, *decoder_tape, *scratch;

 private:
  std::optional<Scratch> memory_;
};

// Does step `step` of the K steps of one model.
void train_step(const Steps& in, const NetworkKernels& networks, const StepMemory& memory, int64_t model, int64_t step);

}  // namespace cpu
}  // namespace phasevae
